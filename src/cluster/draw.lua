-- Answers many questions about limits that nodes share, at once. See draw.rs for what each means.
--
-- KEYS: one for each question, and the one that says since when anything is remembered.
-- ARGV: this node, and then ten for each question:
--   source, six numbers of it, want, its number, the least that is of use.
-- Returns three integers for each question: granted, left, microseconds until asking again is of use.
-- Granted is -1 where the nodes have yet to tell what they have used.
--
-- Numbers are doubles here, whole ones up to 2^53 are exact. Times are the server's, in microseconds.

local node = ARGV[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local MAX_WAIT = 9e15
local MAX_TTL_MS = 400 * 86400 * 1000
-- Settlements may come after the end of a window.
local WINDOW_GRACE_MS = 60000
-- When a slot will be free nobody knows.
local SLOT_WAIT = 100000
-- For so long after its memory was lost nothing is granted of a window: until then all nodes have told
-- what they have used. They look every second.
local SETTLE = 2000000

local function whole(number) return string.format('%.0f', number) end

local function expire_ms(us)
  return whole(math.min(math.max(math.ceil(us / 1000) + 1, 1), MAX_TTL_MS))
end

local memory = KEYS[#KEYS]
local since = tonumber(redis.call('GET', memory) or '')
if not since then
  since = now
  redis.call('SET', memory, whole(now), 'PX', whole(MAX_TTL_MS))
end

local bucket, window, slots = {}, {}, {}

-- The same rules as quota/bucket.rs: there in whole numbers, here in doubles. `at` is up to when the
-- refill is counted; of a full bucket, since when it is full; later than now while an advance is
-- paid back. A bucket that nobody has asked about has been full for long, unless the node knows of
-- less (`most`): then its state was forgotten.
function bucket.load(key, rate, burst, most)
  local text = redis.call('GET', key) or ''
  local level, at, old_burst = string.match(text, '^(%S+) (%S+) (%S+)$')
  level, at, old_burst = tonumber(level), tonumber(at), tonumber(old_burst)
  if level and at and old_burst then
    return { key = key, level = level, at = at, burst = old_burst }
  end
  if most < burst then return { key = key, level = most, at = now, burst = burst } end
  return { key = key, level = burst, at = now - (burst - 1) * 1e12 / rate, burst = burst }
end

function bucket.refresh(state, rate, burst)
  -- What was used stays used when the limit is changed.
  state.level = math.min(state.level + burst - state.burst, burst)
  state.rate, state.burst = rate, burst
  -- One unit is no advance: a single request a minute may come every minute.
  state.advance = (burst - 1) * 1e12 / rate
  -- The clock may have been set back.
  state.at = math.min(state.at, now + state.advance)
  if now <= state.at or state.level >= burst then return end
  local until_full = (burst - state.level) * 1e12 / rate
  if until_full <= now - state.at then
    state.level = burst
    state.at = state.at + until_full
  else
    state.level = state.level + (now - state.at) * rate / 1e12
    state.at = now
  end
end

function bucket.left(state) return math.floor(state.level) end

function bucket.has(state, least) return state.level >= math.min(least, state.burst) end

function bucket.wait(state, least)
  local missing = math.min(math.max(least, 1), state.burst) - state.level
  return math.max(0, state.at - now) + math.max(0, missing) * 1e12 / state.rate
end

function bucket.take(state, amount)
  if amount == 0 then return end
  if state.level >= state.burst then
    local rested = math.max(0, now - state.at)
    state.at = math.max(state.at, now + math.min(rested, state.advance))
  end
  state.level = state.level - amount
end

function bucket.give(state, amount)
  if state.level < state.burst then
    state.level = math.min(state.burst, state.level + amount)
  end
end

function bucket.store(state)
  local full_at = state.at + (state.burst - state.level) * 1e12 / state.rate
  -- From then on it is as one that nobody has asked about.
  local rested_in = full_at + state.advance - now
  if rested_in <= 0 then
    redis.call('DEL', state.key)
    return
  end
  local text = string.format('%.17g %.17g %.17g', state.level, state.at, state.burst)
  redis.call('SET', state.key, text, 'PX', expire_ms(rested_in))
end

-- What each node has had of a window is kept by node, so that saying it twice, or again after the
-- memory was lost, counts once. `sum` is that of all of them. `floor` is what is known to have been
-- had by all, of which some may be of nodes that are no more.
function window.load(key)
  local kept = redis.call('HMGET', key, node, '*sum', '*floor')
  local state = { key = key, own = tonumber(kept[1] or ''), had = {} }
  state.sum, state.floor = tonumber(kept[2] or '') or 0, tonumber(kept[3] or '') or 0
  return state
end

local function window_add(state, amount)
  state.own = (state.own or 0) + amount
  state.sum, state.floor = state.sum + amount, math.max(0, state.floor + amount)
end

-- `held` is what this node has had, below zero where it leaves that to us; `heard` what it last heard
-- that all had; `before` what others had had before it counted, or (`beside`) all before the limit was.
function window.refresh(state, limit, ends_ms, held, heard, before, beside)
  state.limit, state.ends = limit, ends_ms * 1000
  if not state.told then
    state.told = true
    if not state.own then
      state.own = math.max(held, 0)
      state.sum = state.sum + state.own
      state.floor = math.max(state.floor, heard)
    elseif held >= 0 then
      window_add(state, held - state.own)
    end
  end
  local others = state.own
  if beside == 1 then others = state.sum end
  state.floor = math.max(state.floor, state.sum, before + others)
end

function window.left(state) return state.limit - state.floor end

function window.has(state, least) return window.left(state) >= least end

function window.wait(state) return math.max(0, state.ends - now) end

window.take = window_add

function window.give(state, amount) window_add(state, -math.min(amount, state.own)) end

function window.store(state)
  local ttl = expire_ms(math.max(0, state.ends - now) + WINDOW_GRACE_MS * 1000)
  redis.call('HSET', state.key, node, whole(state.own), '*sum', whole(state.sum), '*floor', whole(state.floor))
  redis.call('PEXPIRE', state.key, ttl)
end

function slots.load(key)
  local state = { key = key, others = 0, dead = {} }
  local entries = redis.call('HGETALL', key)
  for i = 1, #entries, 2 do
    local count, expires = string.match(entries[i + 1], '^(%S+) (%S+)$')
    count, expires = tonumber(count), tonumber(expires)
    if not count or not expires or expires <= now then
      state.dead[#state.dead + 1] = entries[i]
    elseif entries[i] == node then
      state.own = count
    else
      state.others = state.others + count
    end
  end
  return state
end

function slots.refresh(state, limit, lease_us, held)
  state.limit, state.lease = limit, lease_us
  if not state.own then state.own = held end
end

function slots.left(state) return state.limit - state.others - state.own end

function slots.has(state, least) return slots.left(state) >= least end

function slots.wait(state) return math.min(SLOT_WAIT, state.lease) end

function slots.take(state, amount) state.own = state.own + amount end

function slots.give(state, amount) state.own = math.max(0, state.own - amount) end

function slots.hold(state, amount) state.own = amount end

function slots.store(state)
  for _, dead in ipairs(state.dead) do redis.call('HDEL', state.key, dead) end
  if state.own > 0 then
    redis.call('HSET', state.key, node, whole(state.own) .. ' ' .. whole(now + state.lease))
    local ttl = math.max(redis.call('PTTL', state.key), tonumber(expire_ms(state.lease)))
    redis.call('PEXPIRE', state.key, whole(ttl))
  else
    redis.call('HDEL', state.key, node)
  end
end

local sources = { bucket = bucket, window = window, slots = slots }
-- What the questions so far have made of each key; a key may be asked about twice.
local states, order = {}, {}
local answers = {}

for i = 1, #KEYS - 1 do
  local key, at = KEYS[i], 1 + (i - 1) * 10
  local source = sources[ARGV[at + 1]]
  local a, b, c = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local d, e, f = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])
  local want, amount, least = ARGV[at + 8], tonumber(ARGV[at + 9]), tonumber(ARGV[at + 10])
  local state = states[key]
  if not state then
    state = source.load(key, a, b, c)
    state.source = source
    states[key] = state
    order[#order + 1] = state
  end
  source.refresh(state, a, b, c, d, e, f)
  local granted, wait = 0, 0
  if want == 'take' and amount > 0 and source == window and now < since + SETTLE then
    granted, wait = -1, since + SETTLE - now
  elseif want == 'take' then
    if amount == 0 or source.has(state, least) then
      granted = math.max(0, math.min(amount, math.max(least, source.left(state))))
    end
    if amount > 0 and granted == 0 then
      wait = math.min(math.ceil(source.wait(state, least)), MAX_WAIT)
    end
    source.take(state, granted)
  elseif want == 'book' then
    granted = amount
    source.take(state, amount)
  elseif want == 'return' then
    source.give(state, amount)
  elseif want == 'hold' and source.hold then
    source.hold(state, amount)
  end
  answers[#answers + 1] = granted
  answers[#answers + 1] = source.left(state)
  answers[#answers + 1] = wait
end

for _, state in ipairs(order) do state.source.store(state) end
return answers
