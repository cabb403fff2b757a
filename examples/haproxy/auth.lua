-- Asks the gateway at /.auth/verify whether a request may pass.
local verify = assert(os.getenv("NODETOOL_AUTH"), "NODETOOL_AUTH is to be the address of the gateway") .. "/.auth/verify"

-- What a judgement hangs on beside the target. All else that the client sent stays here, above all descriptions of its own.
local told = { "authorization", "x-admin-token", "origin", "access-control-request-method", "upgrade" }
local identity = { "x-user-id", "x-auth-token-type", "x-auth-role" }
local refusals = { [401] = true, [403] = true, [503] = true }

-- HAProxy counts the values of a header from 0, but takes them from 1. Two that came are two to the gateway.
local function values(headers, name)
  local all = {}
  for index = 0, #(headers[name] or {}) do
    all[#all + 1] = headers[name] and headers[name][index]
  end
  return #all > 0 and all or nil
end

core.register_action("nodetool_auth", { "http-req" }, function(txn)
  local sent = txn.http:req_get_headers()
  local headers = {
    ["host"] = { "nodetool-auth" },
    ["x-original-method"] = { txn.f:method() },
    ["x-original-uri"] = { txn.f:url() },
    -- By which the gateway counts failures. It believes proxies in AUTH_TRUSTED_PROXIES.
    ["x-forwarded-for"] = { txn.f:src() },
  }
  for _, name in ipairs(told) do
    headers[name] = values(sent, name)
  end

  local answer = core.httpclient():get({ url = verify, headers = headers, timeout = 30000 })
  if answer and answer.status == 200 then
    for _, name in ipairs(identity) do
      for _, value in ipairs(values(answer.headers, name) or {}) do
        txn.http:req_set_header(name, value)
      end
    end
    txn:set_var("txn.nodetool_passed", true)
    return
  end

  -- Anything but an answer of the gateway's is a fault, and a fault is a no.
  local reply = txn:reply({ status = 503 })
  if answer and refusals[answer.status] then
    reply = txn:reply({ status = answer.status })
    for _, name in ipairs({ "content-type", "cache-control", "www-authenticate", "retry-after" }) do
      for _, value in ipairs(values(answer.headers, name) or {}) do
        reply:add_header(name, value)
      end
    end
    reply:set_body(answer.body or "")
  end
  txn:done(reply)
end)
