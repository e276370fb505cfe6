/**
 * What HAProxy's own words can't do for services: the first exchange of a Postgres client that wants TLS, connections that no
 * machine can take, and headers whose names an app chose. `hold_tcp` asks the edge as `hold-script.ts` does.
 */
export function servicesScript(askSocket: string): string {
  return `
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

local PASSES = 3
local ALONE_MS = { 1000, 4000, 10000 }
local FORGET_MS = 130000
local AGAIN_MS = 10000
local held, swept = {}, 0

local function now()
  local t = core.now()
  return t.sec * 1000 + math.floor(t.usec / 1000)
end

local function sweep()
  local at = now()
  if at - swept < 10000 then return end
  swept = at
  for id, one in pairs(held) do
    if at - one.last > FORGET_MS then held[id] = nil end
  end
end

local function ask(slot, waited)
  local socket = core.tcp()
  socket:settimeout(70)
  local answer
  if socket:connect("abns@${askSocket}") and socket:send(string.format("@%s %d\\n", slot, waited)) then
    answer = socket:receive("*l")
  end
  socket:close()
  return answer
end

core.register_action("hold_tcp", { "tcp-req" }, function(txn)
  sweep()
  local slot = txn.f:so_name()
  local id = string.format("%s:%s %s", txn.f:src(), txn.f:src_port(), slot)
  local began = now()
  local one = held[id]
  -- Another connection, which got the port of one that is gone.
  if one == nil or began - one.last > AGAIN_MS then one = { since = began, passes = 0 } end
  one.passes = one.passes + 1
  one.last = began
  held[id] = one
  local function refuse(why)
    held[id] = nil
    txn:set_var("txn.why", why)
  end
  if one.passes > PASSES then return refuse("none could answer") end
  if one.passes > 1 then core.msleep(100 * one.passes) end
  while true do
    local asked, answer = pcall(ask, slot, now() - one.since)
    if not asked then answer = nil end
    one.last = now()
    if answer == "go" then return end
    if string.match(answer or "", "^no ") then return refuse(answer) end
    if now() - began > ALONE_MS[one.passes] then return end
    core.msleep(200)
  end
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
