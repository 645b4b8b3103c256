-- What wrk sends: credentials from a file, one a line, in turn, so that no peer is asked for the same one again and again.
-- Usage: wrk … -s load.lua URL -- FILE HEADER
local requests, at = {}, 0

function init(arguments)
    for line in io.lines(arguments[1]) do
        requests[#requests + 1] = wrk.format("GET", "/", { [arguments[2]] = line })
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

-- One line that run.py reads.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("counted %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
