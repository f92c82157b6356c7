-- Puts one chunk in the place of many, unless something was added to them meanwhile.
-- KEYS: the window's. ARGV: SHA-1 of the many, the one.
local value = redis.call('GET', KEYS[1])
if not value or redis.sha1hex(value) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
