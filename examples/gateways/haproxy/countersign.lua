-- Asks Countersign about a request. What is not a whole "yes" ends the request here.

local CHECK = "http://127.0.0.1:8420/verify/haproxy"
-- Milliseconds. HAProxy tries four times before it answers 503: two seconds together.
local TIMEOUT = 500
local IDENTITY = {
    "X-Auth-Token-Id", "X-Auth-Client-Id", "X-Auth-Platform", "X-Auth-Environment", "X-Auth-Permissions",
}
local ASSERTION = "X-Auth-Assertion"
local UNAVAILABLE =
    '{"status":503,"code":"SERVICE_UNAVAILABLE","message":"The token could not be checked. Try again."}'

-- The value of an answer's header if there is exactly one.
local function one(answer, name)
    local values = answer.headers and answer.headers[name:lower()]
    if values and values[0] and not values[1] and values[0] ~= "" then
        return values[0]
    end
end

local function refuse(txn, status, body, answer)
    local reply = txn:reply { status = status }
    reply:add_header("Content-Type", "application/json")
    reply:add_header("Cache-Control", "no-store")
    for _, name in ipairs({ "WWW-Authenticate", "Retry-After" }) do
        local value = answer and one(answer, name)
        if value then
            reply:add_header(name, value)
        end
    end
    reply:set_body(body)
    txn:done(reply)
end

local function check(txn)
    -- Raw, as it also goes upstream.
    local method, target = txn.f:method(), txn.f:url()
    local headers = {
        ["X-Original-Method"] = { method }, ["X-Original-URI"] = { target }, ["X-Forwarded-For"] = { txn.f:src() },
    }
    local given = txn.http:req_get_headers()["authorization"]
    if given and given[0] then
        headers["Authorization"] = { given[0] }
    end

    local answer = core.httpclient():get { url = CHECK, headers = headers, timeout = TIMEOUT }
    local status = answer and answer.status

    -- HAProxy itself answers 503 with a page of its own if it reaches nobody.
    local theirs = answer and one(answer, "Content-Type") == "application/json"
    if theirs and (status == 401 or status == 403 or status == 503) then
        return refuse(txn, status, answer.body or "", answer)
    end
    local identity = {}
    for _, name in ipairs(IDENTITY) do
        identity[name] = status == 200 and one(answer, name)
        if not identity[name] then
            return refuse(txn, 503, UNAVAILABLE)
        end
    end
    for name, value in pairs(identity) do
        txn.http:req_set_header(name, value)
    end
    local assertion = one(answer, ASSERTION)
    if assertion then
        txn.http:req_set_header(ASSERTION, assertion)
    end
    txn:set_var("txn.countersign", "allowed")
end

core.register_action("countersign", { "http-req" }, check, 0)
