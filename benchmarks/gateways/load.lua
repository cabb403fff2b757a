-- For wrk: sends the tokens of a file one after the other, by POST if there is a body of so many bytes, and prints what came of it as JSON.
local requests, last = {}, 0

function init(args)
  local length = tonumber(args[2])
  local method, body = "GET", nil
  if length > 0 then method, body = "POST", string.rep("x", length) end
  for token in io.lines(args[1]) do
    local headers = { Authorization = "Bearer " .. token, ["User-Agent"] = "wrk", Accept = "*/*" }
    -- What a proxy that asks says of a request.
    if wrk.path == "/.auth/verify" then
      headers["X-Forwarded-Method"], headers["X-Forwarded-Uri"] = "GET", "/v1/models"
    end
    requests[#requests + 1] = wrk.format(method, nil, headers, body)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"refused":%d,"failed":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
