-- Makes the caller the owner of partitions, and tells all offsets. Those of another topic of the same name are
-- forgotten, but not who owns what.
-- KEYS: offsets. ARGV: the topic's id, '' where it is not known; the partitions.
local topic = redis.call('HGET', KEYS[1], 'topic')
if ARGV[1] ~= '' and topic ~= ARGV[1] then
	if topic then
		for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
			if not string.find(field, ':owner$') then redis.call('HDEL', KEYS[1], field) end
		end
	end
	redis.call('HSET', KEYS[1], 'topic', ARGV[1])
end
for i = 2, #ARGV do redis.call('HINCRBY', KEYS[1], ARGV[i] .. ':owner', 1) end
return redis.call('HGETALL', KEYS[1])
