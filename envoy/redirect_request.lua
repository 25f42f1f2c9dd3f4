-- Remembers how the request called the server, and answers 404 to what is none of a backend.
function envoy_on_request(handle)
  local headers, get = handle:headers(), said(handle)
  if get("host") then
    local line = {scheme = headers:get(":scheme") or "http", host = headers:get(":authority") or ""}
    handle:streamInfo():dynamicMetadata():set(ns, "request", line)
  end
  local own = known.guard and get("path") or ""
  if own == "" then return end
  local path = clean(without(get("prefix") or "", (headers:get(":path") or ""):match("^[^?]*")))
  if path and within(own, path) then return end
  handle:respond({[":status"] = "404", ["content-type"] = "application/json"}, failure(-32600, "no_backend",
    "no backend here; the path must be that of the backend's URL or one below it"))
end
