-- Adds what was folded, and how far that reaches in the topic: all of it or nothing.
-- KEYS: offsets, totals, touched; then one for each value of ARGV's end; last those that have become too old.
-- ARGV: how many partitions; for each its number, owner, the offset that must be stored ('' for none), the next one,
-- the log's end, the time in ms, and the newest minute of the seen records;
-- records, skipped, repeated; how many seconds were touched, and these;
-- how many keys have become too old; then for each other key the time at which it expires, and the value.
local offsets, totals, touched = KEYS[1], KEYS[2], KEYS[3]
local at = 1
local function take()
	at = at + 1
	return ARGV[at - 1]
end
-- What could fail is asked for first: nothing is taken back of a script that fails half way.
local before = redis.call('HMGET', totals, 'records', 'skipped', 'repeated', 'sequence')
for i = 1, 4 do
	if before[i] and not tonumber(before[i]) then return redis.error_reply('ERR the totals are not numbers') end
end
redis.call('ZCARD', touched)
local partitions = {}
local applied, differs = 0, false
for _ = 1, tonumber(take()) do
	local p = {number = take(), owner = take(), from = take(), next = take(), ends = take(), time = take(), minute = take()}
	local stored = redis.call('HMGET', offsets, p.number, p.number .. ':owner')
	local offset, owner = stored[1] or '', stored[2] or '0'
	if owner ~= p.owner then
		differs = true
	elseif offset ~= p.from then
		differs = true
		if offset == p.next then applied = applied + 1 end
	end
	table.insert(partitions, p)
end
if differs then
	-- Our own answer may have been lost after it was applied.
	if applied == #partitions then return {} end
	return redis.error_reply('MOVED_ON another process has gone on from here')
end
for _, p in ipairs(partitions) do
	redis.call('HSET', offsets, p.number, p.next, p.number .. ':end', p.ends, p.number .. ':at', p.time, p.number .. ':minute', p.minute)
end
for _, name in ipairs({'records', 'skipped', 'repeated'}) do
	local n = take()
	if n ~= '0' then redis.call('HINCRBY', totals, name, n) end
end
local seconds = tonumber(take())
if seconds > 0 then
	-- The sequence is the time in microseconds, so that it goes on where Redis forgot its last seconds.
	local now = redis.call('TIME')
	local sequence = math.max(now[1] * 1000000 + now[2], (tonumber(before[4]) or 0) + 1)
	redis.call('HSET', totals, 'sequence', string.format('%.0f', sequence))
	for _ = 1, seconds do redis.call('ZADD', touched, string.format('%.0f', sequence), take()) end
	redis.call('ZREMRANGEBYRANK', touched, 0, -4001)
end
local old = tonumber(take())
local lengths = {}
for i = 4, #KEYS - old do
	local expires, value = take(), take()
	local length = redis.pcall('APPEND', KEYS[i], value)
	if type(length) ~= 'number' then -- something else stood there
		redis.call('DEL', KEYS[i])
		length = redis.call('APPEND', KEYS[i], value)
	end
	if length == #value then redis.call('EXPIREAT', KEYS[i], expires) end
	table.insert(lengths, length)
end
for i = #KEYS - old + 1, #KEYS do redis.call('DEL', KEYS[i]) end
return lengths
