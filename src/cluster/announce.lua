-- Says that this node is there, or that it goes, and tells who else is.
--
-- KEYS: the nodes, and the one that says since when anything is remembered. ARGV: this node, what it
-- says of itself (nothing: it goes), for how many microseconds that holds.
-- Returns since when anything is remembered, and then what each node says of itself, by name: nothing
-- of one that has gone.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local memory = redis.call('GET', KEYS[2])
if not memory then
  memory = string.format('%.0f', now)
  redis.call('SET', KEYS[2], memory, 'PX', 400 * 86400 * 1000)
end
local lease = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + lease, ARGV[2]))
local ttl = math.max(redis.call('PTTL', KEYS[1]), lease / 1000 + 1000)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
local entries = redis.call('HGETALL', KEYS[1])
local told = {}
for i = 1, #entries, 2 do
  local expires, about = string.match(entries[i + 1], '^(%d+) (.*)$')
  if expires and tonumber(expires) > now then
    told[#told + 1] = entries[i]
    told[#told + 1] = about
  else
    redis.call('HDEL', KEYS[1], entries[i])
  end
end
return { memory, told }
