-- wrk's side of one run: a request with a session from a file in it; every answer's status is counted.
--   wrk … -s load.lua URL -- REQUEST_FILE SESSIONS_FILE ORDER START
-- ORDER: none (the request as it is), turn, random, forge (the first session with eight digits of its signature changed).
-- START: how many of them were sent before; turn and forge go on from there.
-- It says READY on stderr once all is read; an interrupt from then on ends the run and has it counted.

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

function init(args)
    prepare(args)
    io.stderr:write("READY\n")
end

function prepare(args)
    statuses = {}
    local text, order = read(args[1]), args[3]
    local from, to = text:find("{session}", 1, true)
    local before = from and text:sub(1, from - 1) or text
    local after = from and text:sub(to + 1) or ""
    if order == "none" then
        request = function() return text end
        return
    end
    local values, count, at = {}, 0, tonumber(args[4])
    for line in io.lines(args[2]) do
        count = count + 1
        values[count] = line
    end
    if order == "turn" then
        request = function()
            at = at % count + 1
            return before .. values[at] .. after
        end
    elseif order == "random" then
        local random = math.random
        request = function() return before .. values[random(count)] .. after end
    else
        local stem = before .. values[1]:sub(1, -10)
        local tail = values[1]:sub(-1) .. after
        request = function()
            at = at + 1
            return stem .. string.format("%08d", at % 100000000) .. tail
        end
    end
end

function response(status)
    statuses[status] = (statuses[status] or 0) + 1
end

function done(summary, latency)
    local counted = {}
    for _, thread in ipairs(threads) do
        for status, count in pairs(thread:get("statuses")) do
            counted[status] = (counted[status] or 0) + count
        end
    end
    local listed = {}
    for status, count in pairs(counted) do
        table.insert(listed, string.format('"%d": %d', status, count))
    end
    local errors = summary.errors
    io.write(string.format(
        '\nBENCH {"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "statuses": {%s}, '
            .. '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d}}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), table.concat(listed, ", "),
        errors.connect, errors.read, errors.write, errors.timeout))
end
