-- The whole state of a quota is one string, KEYS[1]: "1", the numbers named below, and the tickets that were given back.
-- Times and durations are microseconds of Redis's clock. Ticket k has its turn at + (k - from) * space, if k >= from; else it is past.
local requests, per, burst, op = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local second, minute, day = 1000000, 60000000, 86400000000
local limit = 0 -- the space between two turns that Requests and Per ask for; 0 if unknown
if requests > 0 then limit = math.ceil(per / requests) end

local names = {
  'gen', 'lesson', 'next', 'at', 'from', 'space', 'seen',
  'phase', -- 0: at the limit; 1: held after a 429, ticket "from" goes first as a probe; 2: at the learned rate
  'known', -- the learned space, 0 for none
  'pace', -- the space at which the last 429 came
  'cause', -- why: 0: the known space was too short; 1: the rate was growing; 2: the space had just been learned
  'streak', -- of 429s that came at the learned rate itself
  'since', 'base', 'idle', 'cost', -- of this cycle: when and with which ticket it began, its idle time, its 429s
  'first', 'refused', 'after', 'tries', -- of this hold: its first 429, its latest, the last Retry-After, how many probes failed
  'probe', 'probed', -- the latest ticket that was granted as a probe, and when
  'paced', 'flat', 'scale', -- when the learned rate began (idle time does not count), how long it stays, how fast it grows then
}
local times = {'at', 'since', 'first', 'refused', 'probed', 'paced'}

local function new()
  local s = {back = {}}
  for _, name in ipairs(names) do s[name] = 0 end
  s.gen, s.at, s.space = now, now - (burst - 1) * limit, limit
  return s
end

-- Returns nil if the value is damaged, or not one of ours.
local function load()
  local text = redis.pcall('GET', KEYS[1])
  if type(text) ~= 'string' then return nil end
  local words = {}
  for word in string.gmatch(text, '%S+') do
    words[#words + 1] = tonumber(word) or -1
  end
  if words[1] ~= 1 or #words <= #names then return nil end
  local s = {back = {}}
  for i, x in ipairs(words) do
    if not (x >= 0 and x < 9e15) then return nil end
    if i > #names + 1 then s.back[#s.back + 1] = x elseif i > 1 then s[names[i - 1]] = x end
  end
  if s.next - s.from > 1e6 or s.space > limit + day or s.at > s.seen + limit + 2 * day then return nil end
  if s.seen > now then -- the clock was set back
    for _, name in ipairs(times) do s[name] = math.max(0, s[name] - (s.seen - now)) end
  end
  return s
end

local function turn(s, k) return s.at + (k - s.from) * s.space end

-- Sets the space between two turns, from the first ticket on whose turn is still to come.
local function change(s, space)
  local k = s.from
  if s.space > 0 and now >= s.at then
    k = math.min(s.next, s.from + math.floor((now - s.at) / s.space) + 1)
  end
  s.at, s.from, s.space = turn(s, k), k, math.ceil(space)
end

local function bounded(x, low, high) return math.max(low, math.min(high, x)) end

local function learn(s) -- the probe was not rejected
  local took, granted = s.at - s.since - s.idle, s.from - s.base - s.cost
  -- The API may have granted requests again for so long. Retry-After is in whole seconds.
  local gap = s.at - s.refused - math.max(0, s.after - second)
  if s.since > 0 and took > 0 and granted > 0 then
    local low, high = (took - gap) / (granted + 1), took / granted
    if s.known == 0 then
      s.known = (took - gap / 2) / granted
    elseif s.cause == 2 then
      s.known = bounded(s.known, low, high)
    elseif s.cause == 1 then
      s.streak = 0
      s.known = bounded(2 / (1 / s.known + 1 / s.pace), low, high)
    else
      s.streak = s.streak + 1
      s.known = bounded(s.known / 0.95 ^ (2 ^ math.min(s.streak - 1, 5)), low, high)
    end
  elseif s.known > 0 then
    s.streak = s.streak + 1
    s.known = s.known / 0.95 ^ (2 ^ math.min(s.streak - 1, 5))
  end
  local held = s.at - s.first
  s.flat = math.min(10 * minute, math.max(held, 40 * s.cost * s.known, 20 * math.min(gap, second)))
  s.scale = bounded(math.max(held, s.flat / 2), second, minute)
  s.probe, s.probed, s.phase, s.paced = s.from, s.at, 2, s.at
  s.at, s.from = now, s.from + 1
  s.space = math.ceil(s.known > 0 and s.known or second / 4)
end

-- Brings the state to this moment. Returns nil if there is nothing to limit any more.
local function advance(s)
  if s.phase == 1 and s.next > s.from and now >= s.at + s.space then learn(s) end
  if s.phase == 0 and limit == 0 then return nil end
  local start = now
  if s.phase == 0 then start = now - (burst - 1) * limit end
  if turn(s, s.next) < start then -- nobody waits
    local idle = start - turn(s, s.next)
    s.idle, s.paced = s.idle + idle, s.paced + idle
    s.at, s.from = start, s.next
  end
  local space = limit
  if s.phase == 2 then
    change(s, s.space)
    if (s.known == 0 or s.from - s.probe >= 10) and s.since ~= s.probed then -- a new cycle, as the rate was not rejected at once
      s.since, s.base, s.idle, s.cost = s.probed, s.probe, s.paced - s.probed, 0
    end
    local x = (now - s.paced - s.flat) / s.scale
    if s.known == 0 then
      space = second / 4 / 2 ^ ((now - s.paced) / second)
    elseif x > 9 then
      space = 0
    else
      space = s.known / (1 + 0.02 * math.max(0, x) ^ 3)
    end
    if space <= limit then
      if limit == 0 then return nil end
      s.phase, s.known, s.streak, space = 0, 0, 0, limit
    end
  end
  if s.phase ~= 1 and math.ceil(space) ~= s.space then change(s, space) end
  return s
end

local function throttle(s, after)
  after = math.min(after, day)
  s.cost, s.after = s.cost + 1, after
  if s.phase == 1 and now < s.at then -- of a request that was sent before the hold
    if now + after > s.at then s.at, s.lesson = now + after, s.lesson + 1 end
    return
  end
  change(s, s.space)
  s.lesson, s.refused = s.lesson + 1, now
  if s.phase == 1 then
    s.tries = s.tries + 1
  elseif s.phase == 2 and s.since ~= s.probed then
    s.tries, s.cause = s.tries + 1, 2
  else
    s.first, s.pace, s.cause, s.tries = now, s.space, 0, 0
    if s.phase == 0 then
      s.known = limit
    elseif now > s.paced + s.flat then
      s.cause = 1
    end
  end
  local wait = second
  if s.known > 0 then wait = bounded(s.known, second / 4, 15 * second) end
  s.space = math.ceil(math.max(s.known, second / 2))
  s.phase, s.at = 1, now + math.ceil(math.max(after, math.min(30 * second, wait * 2 ^ s.tries)))
end

-- Keeps the tickets that are given back, and can be used. A client that sends a command again gives its tickets back twice.
local function giveBack(s)
  local usable, known = {}, {}
  for _, k in ipairs(s.back) do
    if turn(s, k) >= now and k >= s.from and k < s.next and not known[k] then -- a turn that is over is nobody's
      usable[#usable + 1], known[k] = k, true
    end
  end
  table.sort(usable)
  s.back = usable
  while s.back[#s.back] == s.next - 1 do
    table.remove(s.back)
    s.next = s.next - 1
  end
end

-- The next ticket, or nil and the wait for it, if that is longer than the caller has.
local function book(s, patience)
  local k, wait = s.back[1] or s.next
  wait = turn(s, k) - now
  if wait > patience then return nil, wait end
  if s.back[1] then table.remove(s.back, 1) else s.next = s.next + 1 end
  return k
end

local function save(s)
  s.seen = now
  local words = {'1'}
  for _, name in ipairs(names) do words[#words + 1] = string.format('%.17g', s[name]) end
  for i = 1, math.min(#s.back, 1000) do words[#words + 1] = string.format('%.0f', s.back[i]) end
  local keep = turn(s, s.next) - now + burst * s.space + minute
  if s.phase > 0 then keep = math.max(keep, 10 * minute) end
  redis.call('SET', KEYS[1], table.concat(words, ' '), 'PX', math.ceil(keep / 1000))
end

local s = load() or (limit > 0 or op == 'throttled') and new() or nil
if s then s = advance(s) or (op == 'throttled') and new() or nil end
if not s then
  local free = {0, 0, now, 0, 0, 0, 0}
  for i = 7 + tonumber(ARGV[6]), #ARGV do free[#free + 1] = 0 end
  return free
end

local booked = {}
if op == 'throttled' then
  throttle(s, tonumber(ARGV[5]))
else
  for i = 7, 6 + tonumber(ARGV[6]) do
    if tonumber(ARGV[5]) == s.gen then s.back[#s.back + 1] = tonumber(ARGV[i]) end
  end
  giveBack(s)
  for i = 7 + tonumber(ARGV[6]), #ARGV do
    local k, wait = book(s, tonumber(ARGV[i]))
    booked[#booked + 1] = k or -wait - 1
  end
end
if op == 'throttled' or #ARGV > 6 or s.phase > 0 then save(s) end

local again = 0 -- after so long, turns may be earlier than they seem now
if s.phase == 1 then
  again = math.max(0, s.at - now) + s.space
elseif s.phase == 2 and s.known == 0 then
  again = second / 4
elseif s.phase == 2 and now > s.paced + s.flat then
  again = s.scale / 2
end
local reply = {s.gen, s.lesson, now, s.at - now, s.from, s.space, again}
for _, k in ipairs(booked) do reply[#reply + 1] = k end
return reply
