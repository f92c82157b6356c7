-- Posts frames, each with an id of its own, for wrk. Environment: BODIES, a folder of
-- bodies 0, 1, …; COUNT of them; DRAINS, whose tokens take turns.
local count, drains = tonumber(os.getenv('COUNT')), tonumber(os.getenv('DRAINS'))
local tails, heads, n, run, thread = {}, {}, 0, nil, 0
function setup(t) t:set('thread', thread); thread = thread + 1 end
function init()
  math.randomseed(os.time() + 7919 * thread)
  run = string.format('%08X%08X%08X', math.random(0, 2 ^ 31 - 1), math.random(0, 2 ^ 31 - 1), thread)
  for k = 0, count - 1 do
    local f = assert(io.open(os.getenv('BODIES') .. '/' .. k, 'rb'))
    local body = f:read('*a')
    f:close()
    tails[k] = string.format('\r\nContent-Length: %d\r\n\r\n', #body) .. body
  end
  for d = 0, drains - 1 do
    heads[d] = 'POST /logs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/logplex-1\r\nUser-Agent: Logplex/v72\r\n' ..
      string.format('Logplex-Drain-Token: d.%08x-3332-4546-93de-7d0ee272c3bd\r\nLogplex-Frame-Id: ', d) .. run
  end
end
function request()
  n = n + 1
  return heads[n % drains] .. string.format('%08X', n) .. tails[n % count]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('result %d %d %d %d %d %d %d\n', summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
