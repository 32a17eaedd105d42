-- Appends an entry to a log, once, in order, while there is room.
--
-- KEYS: the log. ARGV: number of the entry, from 0; its bytes; milliseconds until the log is
-- forgotten; the most bytes it may hold.
-- Returns 1: appended; 0: it was there; -1: one before it is missing; -2: no room.

local seq = tonumber(ARGV[1])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local next_seq, total = 0, 0
if last then
  -- Entry n has the id n+1, because a stream's ids begin after 0-0.
  next_seq = tonumber(string.match(last[1], '^(%d+)'))
  total = tonumber(last[2][2])
end
if seq < next_seq then return 0 end
if seq > next_seq then return -1 end
total = total + #ARGV[2]
if total > tonumber(ARGV[4]) then return -2 end
redis.call('XADD', KEYS[1], string.format('%.0f-0', seq + 1), 'total', string.format('%.0f', total), 'bytes', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
