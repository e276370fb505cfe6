/**
 * HAProxy asks the edge which machine a request is for (`steer`), and tells it of an app that replays (`learn`). An edge that is being started again
 * is asked again; who only prefers a machine does not wait for that.
 */
export function steerScript(steerSocket: string): string {
  return `
local STEER_ALONE_MS = 10000
local function ask_edge(line)
  local socket = core.tcp()
  socket:settimeout(70)
  local answer
  if socket:connect("abns@${steerSocket}") and socket:send(line .. "\\n") then
    answer = socket:receive("*l")
  end
  socket:close()
  return answer
end

local function ask_until(line, limit)
  local function clock()
    local t = core.now()
    return t.sec * 1000 + math.floor(t.usec / 1000)
  end
  local began = clock()
  while true do
    local asked, answer = pcall(ask_edge, line)
    if asked and answer then return answer end
    if clock() - began >= limit then return nil end
    core.msleep(200)
  end
end

local function clean(value)
  return string.gsub(string.sub(value or "", 1, 400), "%c", "")
end

core.register_action("steer", { "http-req" }, function(txn)
  local function header(name) return (clean(txn.sf:req_fhdr(name))) end
  local force_region, force_instance = header("fly-force-region"), header("fly-force-instance-id")
  local forced = force_region ~= "" or force_instance ~= ""
  local line = table.concat({
    "steer", clean(txn:get_var("txn.host")), force_region, force_instance,
    header("fly-prefer-region"), header("fly-prefer-instance-id")
  }, "\\t")
  local answer = ask_until(line, forced and STEER_ALONE_MS or 0)
  local server, how = string.match(answer or "", "^to (%S+) (%a+)$")
  if server then
    txn:set_var("txn.to", server)
    if how == "forced" then txn:set_var("txn.forced", true) end
    return
  end
  if answer == "any" or not forced then return end
  local seconds, why = string.match(answer or "", "^no (%d+) (.+)$")
  txn:set_var("txn.retry", seconds or "1")
  txn:set_var("txn.why", why or "The machine that was asked for can not be found now.")
end, 0)

core.register_action("learn", { "http-res" }, function(txn)
  local answer = ask_until("learn\\t" .. clean(txn:get_var("txn.host")), STEER_ALONE_MS)
  txn:set_var("txn.learned", answer == "ok" and "yes" or "no")
end, 0)
`
}
