import { holding } from './hold-script.ts'

/**
 * What HAProxy's own words can't do for services: the first exchange of a Postgres client that wants TLS, connections that no
 * machine can take, and headers whose names an app chose.
 */
export function servicesScript(askSocket: string): string {
  return `${holding(askSocket)}
local SSL_REQUEST = "\\0\\0\\0\\8\\4\\210\\22\\47"
local GSS_REQUEST = "\\0\\0\\0\\8\\4\\210\\22\\48"

local function peek(channel, length)
  while true do
    local data = channel:data(0, length)
    if data == nil or #data >= length then return data end
    if not channel:may_recv() then return nil end
    core.msleep(5)
  end
end

local function refusal(text)
  local body = "SFATAL\\0VFATAL\\0C28000\\0M" .. text .. "\\0\\0"
  local length = #body + 4
  return "E" .. string.char(0, 0, math.floor(length / 256), length % 256) .. body
end

core.register_action("postgres", { "tcp-req" }, function(txn)
  local head = peek(txn.req, 8)
  if head == GSS_REQUEST then
    txn.req:remove(0, 8)
    txn.res:send("N")
    head = peek(txn.req, 8)
  end
  if head == nil then return end
  if head == SSL_REQUEST then
    txn.req:remove(0, 8)
    txn.res:send("S")
    txn:set_var("txn.postgres", "tls")
  else
    txn.res:send(refusal("this port wants TLS: connect with sslmode=require"))
    txn:set_var("txn.postgres", "plain")
  end
end, 0)

-- An address and port may come again as another connection.
local AGAIN_MS = 10000

core.register_action("hold_tcp", { "tcp-req" }, function(txn)
  local slot = txn.f:so_name()
  local id = string.format("%s:%s %s", txn.f:src(), txn.f:src_port(), slot)
  local seconds, why = hold(id, "@" .. slot, AGAIN_MS)
  if seconds then txn:set_var("txn.why", why) end
end, 0)

local function unescaped(text)
  return (string.gsub(text, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

core.register_action("dress", { "http-res" }, function(txn)
  local options = txn:get_var("txn.options") or ""
  local changes = string.match(options, "^[^|]*|[^|]*|(.*)$") or ""
  for change in string.gmatch(changes, "[^,]+") do
    local verb, name, value = string.match(change, "^(%a):([^:]+):?(.*)$")
    if verb == "s" then txn.http:res_set_header(unescaped(name), unescaped(value)) end
    if verb == "a" then txn.http:res_add_header(unescaped(name), unescaped(value)) end
    if verb == "d" then txn.http:res_del_header(unescaped(name)) end
  end
end, 0)
`
}
