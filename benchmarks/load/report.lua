-- wrk's side of the suite: makes the request and prints the summary as one line of JSON.
--   wrk ... -s report.lua URL -- POST_BYTES PIPELINED
local pipelined

function init(args)
   local size = tonumber(args[1])
   if size > 0 then
      wrk.method = "POST"
      wrk.body = string.rep("x", size)
   end
   local one = wrk.format()
   pipelined = string.rep(one, tonumber(args[2]))
end

function request()
   return pipelined
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      '{"requests": %d, "bytes": %d, "seconds": %.6f, "connect": %d, "read": %d, "write": %d, ' ..
      '"status": %d, "timeout": %d}\n',
      summary.requests, summary.bytes, summary.duration / 1e6,
      e.connect, e.read, e.write, e.status, e.timeout))
end
