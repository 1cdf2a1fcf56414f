-- Admission: calls of one caller against every limit of requests that applies to it, all or nothing each.
--
-- KEYS[1]   what this very question was answered before: asked again, it gets the same answer and takes nothing
-- KEYS[2..] one a limit: a rate's theoretical arrival time (string, microseconds), or a count (hash: start, used)
-- ARGV[1]   how many calls: above 0 take, 0 only look, -1 give one back
-- ARGV[2..] two a limit: its window ("day", "month", "total"; a rate's period in microseconds), its amount
--
-- Answers integers: the server's time in microseconds, how many counts are not loaded; if any, for each of those its
-- place among the limits and the start of its window in seconds; else for each call the place of the limit that
-- refused it (0: taken), and after it for each limit what is left and in how many microseconds it is whole again
-- (-1: never). Of what is given back, counts that are not loaded have nothing left (-1).

local calls = tonumber(ARGV[1])
if calls ~= 0 then
  local said = redis.call('GET', KEYS[1])
  if said then return cmsgpack.unpack(said) end
end
local time = redis.call('TIME')
local now_s = tonumber(time[1])
local now = now_s * 1000000 + tonumber(time[2])

-- Of a day since the epoch: its place in its month, from 0 (the civil calendar, counted from March of year 0).
local function day_of_month(day)
  local days = day + 719468
  local of_era = days % 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return of_year - math.floor((153 * math.floor((5 * of_year + 2) / 153) + 2) / 5)
end

local function bounds(window)
  if window == 'total' then return 0, -1 end
  local day = math.floor(now_s / 86400)
  if window == 'day' then return day * 86400, (day + 1) * 86400 end
  local first = day - day_of_month(day)
  local later = first + 32
  return first * 86400, (later - day_of_month(later)) * 86400
end

local limits, missing = {}, {}
for place = 1, #KEYS - 1 do
  local limit = {key = KEYS[place + 1], amount = tonumber(ARGV[2 * place + 1])}
  local window = ARGV[2 * place]
  local period = tonumber(window)
  if period then
    limit.rate = true
    limit.spacing = limit.amount > 0 and math.ceil(period / limit.amount) or period
    limit.tat = math.max(tonumber(redis.call('GET', limit.key) or '0'), now)
  else
    limit.start, limit.stop = bounds(window)
    local held = redis.call('HMGET', limit.key, 'start', 'used')
    if tonumber(held[1] or '-1') == limit.start then
      limit.used = tonumber(held[2])
    else
      missing[#missing + 1] = place
      missing[#missing + 1] = limit.start
    end
  end
  limits[place] = limit
end

local answer = {now, #missing / 2}
if #missing > 0 and calls >= 0 then
  for _, part in ipairs(missing) do answer[#answer + 1] = part end
  return answer
end
answer[2] = 0

local function refusing()
  for place, limit in ipairs(limits) do
    if limit.rate then
      if limit.tat - now + limit.spacing > limit.spacing * limit.amount then return place end
    elseif limit.used >= limit.amount then
      return place
    end
  end
  return 0
end

local function move(by)
  for _, limit in ipairs(limits) do
    if limit.rate then
      limit.tat = math.max(limit.tat + by * limit.spacing, now)
    elseif limit.used then
      limit.used = math.max(limit.used + by, 0)
    end
  end
end

local function tell(refused)
  answer[#answer + 1] = refused
  for _, limit in ipairs(limits) do
    if limit.rate then
      local ahead = limit.tat - now
      answer[#answer + 1] = math.max(math.floor((limit.spacing * limit.amount - ahead) / limit.spacing), 0)
      answer[#answer + 1] = limit.amount > 0 and ahead or limit.spacing
    else
      answer[#answer + 1] = limit.used and math.max(limit.amount - limit.used, 0) or -1
      answer[#answer + 1] = limit.stop < 0 and -1 or limit.stop * 1000000 - now
    end
  end
end

if calls == 0 then
  tell(0)
  return answer
end
if calls < 0 then
  move(-1)
  tell(0)
end
for _ = 1, calls do
  local refused = refusing()
  if refused == 0 then move(1) end
  tell(refused)
end

for _, limit in ipairs(limits) do
  if limit.rate then
    redis.call('SET', limit.key, string.format('%.0f', limit.tat), 'PX', math.ceil((limit.tat - now) / 1000) + 1000)
  elseif limit.used then
    redis.call('HSET', limit.key, 'start', limit.start, 'used', limit.used)
    if limit.stop < 0 then
      redis.call('EXPIRE', limit.key, 2592000)
    else
      redis.call('EXPIREAT', limit.key, limit.stop + 60)
    end
  end
end
redis.call('SET', KEYS[1], cmsgpack.pack(answer), 'PX', 10000)
return answer
