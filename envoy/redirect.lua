-- What a server says of itself in Location leads through Envoy to the same server. What leads elsewhere is refused.
local ns = "bellhop.redirect"
local loopback = {["localhost"] = true, ["127.0.0.1"] = true, ["[::1]"] = true}
local default = {http = 80, https = 443}

-- A host in lower case and its port. Whatever has a user, or anything odd, is none.
local function authority(text, scheme)
  text = text:lower()
  local host, port = text:match("^(%[[%x:.]+%]):?(%d*)$")
  if not host then host, port = text:match("^([%w._-]+):?(%d*)$") end
  return host, tonumber(port) or default[scheme]
end

-- Whether a server that is reached at own calls itself so. Behind TLS, many do not know that their scheme is https.
-- One that is reached without TLS and names https means something else.
local function same(own, scheme, host, port)
  if host ~= own.host and not (loopback[host] and loopback[own.host]) then return false end
  if scheme ~= own.scheme and scheme ~= "http" and not own.either then return false end
  return port == own.port or port == default[scheme] and own.port == default[own.scheme]
end

-- A path as every client and server reads it. Where they could differ, nil.
local function clean(path)
  if path:gsub("%%%x%x", ""):find("[^%w%-._~!$&'()*+,;=:@/]") then return nil end
  path = path:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)):match("[%w%-._~]") end)
  local low, out = path:lower(), {}
  if low:find("%%2f") or low:find("%%5c") or low:find("%%[01]%x") or low:find("%%7f") then return nil end
  for segment in path:gmatch("[^/]+") do
    if segment:find("^%.%.?;") then return nil end
    if segment == ".." then table.remove(out) elseif segment ~= "." then out[#out + 1] = segment end
  end
  return "/" .. table.concat(out, "/") .. (#out > 0 and path:find("/%.?%.?$") and "/" or "")
end

-- What the route says of its server, else what holds for all of them.
local function said(handle)
  local context = handle.filterContext and handle:filterContext()
  return function(name)
    local value = context and context:get(name)
    if value == nil then return known[name] end
    return value
  end
end

-- A path without what stands before it at this Envoy.
local function without(prefix, path)
  local rest = path:sub(1, #prefix) == prefix and path:sub(#prefix + 1) or "/"
  return rest:sub(1, 1) == "/" and rest or "/" .. rest
end

local function within(folder, path)
  return folder == "" or path == folder or path:sub(1, #folder + 1) == folder .. "/"
end

local function failure(code, reason, message)
  return '{"jsonrpc":"2.0","id":"bellhop","error":{"code":' .. code .. ',"message":"' .. message ..
    '","data":{"reason":"' .. reason .. '"}}}'
end

-- A path from where the request was, as it is: what stands before the server's paths here changes nothing of it, unless
-- it climbs, or the request was for the prefix itself. Where it leads outside, there is no route.
local function relative(text, fact)
  if text:match("^[^/]*"):find(":", 1, true) or not clean(text) then return nil end
  for segment in text:gsub("%%2[eE]", "."):gmatch("[^/]+") do
    if segment == ".." and fact.prefix ~= "" then return nil end
  end
  return (fact.exact and text ~= "" and fact.prefix .. "/" or "") .. text
end

-- The scheme, host, port and path that an absolute reference names; of //host/path the scheme is the server's.
local function absolute(text, own)
  local scheme, place, path = text:match("^(%a[%w+.-]*)://([^/]*)(.*)$")
  if not scheme then
    scheme, place, path = own.scheme, text:match("^//([^/]*)(.*)$")
  end
  scheme = scheme:lower()
  local host, port = authority(place, scheme)
  return default[scheme] and host and scheme, host, port, clean(path)
end

-- The Location at this Envoy; or nil, why not, and the URL that the server means.
local function translate(location, fact)
  local text, query = location:match("^([^?#]*)([^#]*)")
  if query:find("%c") then return nil, "malformed" end
  local own = fact.own[1]
  if not own then return nil, "unknown" end
  local path = text:sub(1, 1) == "/" and clean(text)
  if text:find("^//") or text:find("^%a[%w+.-]*:") then
    local scheme, host, port
    if not text:find("^//") and not text:find("^%a[%w+.-]*://") then return nil, "malformed" end
    scheme, host, port, path = absolute(text, own)
    if not scheme or not path then return nil, "malformed" end
    local origin, ours = scheme .. "://" .. host .. ":" .. port, false
    if fact.elsewhere[origin] then return location end
    for _, one in ipairs(fact.own) do ours = ours or same(one, scheme, host, port) end
    if not ours then return nil, "elsewhere", origin .. path end
  elseif text:sub(1, 1) ~= "/" and text .. query ~= "" then
    local there = relative(text, fact)
    return there and there .. query, "malformed"
  end
  if not path then return nil, "malformed" end
  if not within(fact.path, path) then
    return nil, "outside", own.scheme .. "://" .. own.host .. ":" .. own.port .. path
  end
  return fact.prefix .. path .. query
end

-- What is known of the server of a response.
local function facts(handle)
  local get, fact = said(handle), {own = {}, elsewhere = {}}
  fact.exact = get("exact")
  for _, name in ipairs({"server", "hint", "prefix", "path"}) do fact[name] = get(name) or "" end
  for _, origin in ipairs(get("elsewhere") or {}) do fact.elsewhere[origin] = true end
  local met = handle:streamInfo():dynamicMetadata():get(ns)
  met = met and met.request
  local function add(scheme, place, either)
    local host, port = authority(place, scheme)
    if host then fact.own[#fact.own + 1] = {scheme = scheme, host = host, port = port, either = either} end
  end
  for _, origin in ipairs(get("own") or {}) do add(origin:match("^(%a+)://(.*)$")) end
  if get("host") and met and met.scheme then add(met.scheme, met.host, true) end
  if fact.server == "" then fact.server = fact.own[1] and "the server " .. fact.own[1].host or "a server" end
  return fact
end

local why = {
  elsewhere = "leads to another server",
  outside = "leads outside of the path that this server has in the configuration",
  malformed = "is no URL that all programs read alike",
  unknown = "cannot be judged, because this route does not say which server it leads to",
}

local function count(handle, name)
  if handle.stats then handle:stats():counter(name):inc() end
end

-- A text in which what stands between letters, digits and punctuation is one line end or one space. A line ends where any
-- client takes it to end: Python's splitlines knows more ends than the standard, some as the last byte of several.
local function squeezed(text)
  return (text:lower():gsub("[^%w%p]+", function(gap) return gap:find("[\r\n\11\12\28-\30\133\168\169]") and "\n" or " " end))
end

-- In MCP's old transport an event of a stream names the path for requests. It does not come through: in its place comes a
-- URL that no client can take for one, so that it fails at once, and then nothing. Some clients trim what is about a name,
-- and read any answer to a GET as a stream, whatever its type says.
local function watch(handle)
  local headers, get = handle:headers(), said(handle)
  if not get("events") then return end
  local kind = (headers:get("content-type") or ""):lower()
  if kind:find("event-stream", 1, true) and not kind:find("^text/event%-stream *;? *$") and
      not kind:find('^text/event%-stream *; *charset="?utf%-8"?$') then
    headers:replace("content-type", "text/event-stream") -- in another charset the bytes would be another text
  end
  headers:remove("content-encoding") -- the request allows none
  local before, cut, server = "\n", false, get("server") -- what is got here is out of date within the loop
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    local text = squeezed(before .. (size > 0 and chunk:getBytes(0, size) or ""))
    if cut then
      chunk:setBytes("")
    elseif text:find("\nevent[ \n]?:[ \n]?endpoint%f[^%w_.-]") then
      cut = true
      chunk:setBytes("\n\nevent: endpoint\ndata: http://[\n\n")
      handle:logWarn("bellhop: " .. server .. " names in an event where to send requests (HTTP with SSE, the old" ..
        " transport): the stream is cut; use Streamable HTTP")
      count(handle, "refused")
    else
      before = text:sub(-32)
    end
  end
end

-- A cookie of a server that shares this Envoy's host with others is for its own paths, and goes to no other server. What
-- clients could read in different ways is none.
local function scoped(cookie, prefix)
  if cookie:find("[^\32-\126]") then return nil end
  local path, kept = "/", {}
  for part in cookie:gmatch("[^;]+") do
    local name, value = part:match("^%s*([^=%s]*)%s*=?%s*(.-)%s*$")
    name = name:lower()
    if #kept > 0 and name == "path" then
      path = value:sub(1, 1) == "/" and clean(value) or "/"
    elseif #kept == 0 or name ~= "domain" then
      kept[#kept + 1] = part
    end
  end
  return table.concat(kept, ";") .. "; Path=" .. prefix .. (path == "/" and "" or path)
end

local function scope(headers, prefix)
  local cookies = {}
  for i = 0, headers:getNumValues("set-cookie") - 1 do cookies[#cookies + 1] = headers:getAtIndex("set-cookie", i) end
  headers:remove("set-cookie")
  for _, cookie in ipairs(cookies) do
    local own = scoped(cookie, prefix)
    if own then headers:add("set-cookie", own) end
  end
end

-- Answers 502 in place of the server.
local function refuse(handle, fact, status, reason, url, location)
  local seen = (url or location:match("^[^?#]*")):gsub("//.*@", "//*@")
  seen = seen:gsub("[^%w%-._~!$&'()*+,;=:@/%%%[%]]", "?"):sub(1, 200)
  local names = {URL = seen, ORIGIN = seen:match("^%a+://[^/]*")}
  local hint = url and fact.hint ~= "" and "; if it is meant, " .. fact.hint:gsub("%u%u%u+", names) or ""
  handle:logWarn("bellhop: " .. fact.server .. " answers " .. status .. " with a Location that " .. why[reason] ..
    ": " .. seen .. hint)
  handle:streamInfo():dynamicMetadata():set(ns, "refused", reason)
  local headers = handle:headers()
  if status ~= "201" and status:sub(1, 1) ~= "3" then return watch(handle) end
  for _, name in ipairs({"content-encoding", "content-language", "etag", "set-cookie"}) do headers:remove(name) end
  headers:replace(":status", "502")
  headers:replace("content-type", "application/json")
  local message = fact.server .. " answered " .. status .. " with a Location that " .. why[reason] ..
    "; Envoy does not pass it on, its log says where it leads"
  local length = handle:body(true):setBytes(failure(-32603, "redirect_" .. reason, message))
  handle:headers():replace("content-length", length) -- what was read before the body is out of date
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local location, content = headers:get("location"), headers:get("content-location")
  headers:remove("refresh")
  headers:remove("alt-svc")
  local prefix = said(handle)("prefix") or ""
  headers:remove("set-cookie2")
  if prefix ~= "" and headers:get("set-cookie") then scope(headers, prefix) end
  if not location and not content then return watch(handle) end
  headers:remove("location")
  headers:remove("content-location")
  local fact = facts(handle)
  if content then
    local ok, there = pcall(translate, content, fact)
    if ok and there then headers:add("content-location", there) end
  end
  if not location then return watch(handle) end
  local ok, there, reason, url = pcall(translate, location, fact)
  if ok and there then
    headers:add("location", there)
    count(handle, "translated")
    watch(handle)
  else
    count(handle, "refused")
    refuse(handle, fact, headers:get(":status"), ok and reason or "malformed", url, location)
  end
end
