-- Tells the offsets. Those of another topic of the same name are forgotten.
-- KEYS: offsets. ARGV: the topic's id, '' where it is not known.
local topic = redis.call('HGET', KEYS[1], 'topic')
if ARGV[1] ~= '' and topic ~= ARGV[1] then
	if topic then redis.call('DEL', KEYS[1]) end
	redis.call('HSET', KEYS[1], 'topic', ARGV[1])
end
return redis.call('HGETALL', KEYS[1])
