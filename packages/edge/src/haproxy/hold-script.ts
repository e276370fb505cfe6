/**
 * What HAProxy does with a request that no machine can take: it asks the edge, who answers when there is one (`go`), or says why not
 * (`no SECONDS TEXT`). An edge that is being started again is asked again; meanwhile the request is tried now and then, since
 * HAProxy's own checks may have found a machine. A request that comes back after `go` failed at a machine: not for ever.
 */
export function holdScript(askSocket: string): string {
  return `${holding(askSocket)}
core.register_action("hold", { "http-req" }, function(txn)
  local id = txn.sf:req_fhdr("fly-request-id") or ""
  local seconds, why = hold(id, txn:get_var("txn.host") or "", FORGET_MS)
  if seconds == nil then return end
  txn:set_var("txn.retry", seconds)
  txn:set_var("txn.why", why)
end, 0)
`
}

/**
 * For a script: `hold(id, subject, same_ms)` returns when what has this id may be tried, or how many seconds from now it should come again,
 * and why. Who comes back under the same id within `same_ms` is the same one.
 */
export function holding(askSocket: string): string {
  return `
local PASSES = 3
local ALONE_MS = { 1000, 4000, 10000 }
local FORGET_MS = 130000
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

local function ask(subject, waited)
  local socket = core.tcp()
  socket:settimeout(70)
  local answer
  if socket:connect("abns@${askSocket}") and socket:send(string.format("%s %d\\n", subject, waited)) then
    answer = socket:receive("*l")
  end
  socket:close()
  return answer
end

local function hold(id, subject, same_ms)
  sweep()
  local began = now()
  local one = held[id]
  if one == nil or began - one.last > same_ms then one = { since = began, passes = 0 } end
  one.passes = one.passes + 1
  one.last = began
  held[id] = one
  if one.passes > PASSES then
    held[id] = nil
    return "5", "No machine of this app could answer."
  end
  if one.passes > 1 then core.msleep(100 * one.passes) end
  while true do
    local asked, answer = pcall(ask, subject, now() - one.since)
    if not asked then answer = nil end
    one.last = now()
    if answer == "go" then return nil end
    local seconds, why = string.match(answer or "", "^no (%d+) (.+)$")
    if seconds then
      held[id] = nil
      return seconds, why
    end
    if now() - began > ALONE_MS[one.passes] then return nil end
    core.msleep(200)
  end
end
`
}
