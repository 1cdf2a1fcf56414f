-- The count of a window that Redis does not hold yet: KEYS[1] the count, ARGV its start in seconds, calls.
-- Whoever else loaded it, or a later window, in the meantime stays.
local held = tonumber(redis.call('HGET', KEYS[1], 'start') or '-1')
if held < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'start', ARGV[1], 'used', ARGV[2])
  redis.call('EXPIRE', KEYS[1], 2592000)
end
return held
