-- Says that this node is there, and tells who else is.
--
-- KEYS: the nodes. ARGV: this node, what it says of itself, for how many microseconds that holds.
-- Returns what each node says of itself, by name.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + lease, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', lease / 1000 + 1000))
local entries = redis.call('HGETALL', KEYS[1])
local alive = {}
for i = 1, #entries, 2 do
  local expires, about = string.match(entries[i + 1], '^(%d+) (.*)$')
  if expires and tonumber(expires) > now then
    alive[#alive + 1] = entries[i]
    alive[#alive + 1] = about
  else
    redis.call('HDEL', KEYS[1], entries[i])
  end
end
return alive
