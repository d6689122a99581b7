"""What must happen in Redis in one step. An entry is a digest ``d``, its kind ``k`` and its record ``r``, in that order."""

from __future__ import annotations

APPEND = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and not (last[2][1] == 'd' and pcall(cjson.decode, last[2][6] or '')) then
  return redis.error_reply('STRANGE ' .. last[1] .. ' at the end of ' .. KEYS[1])
end
local digest = last and last[2][2] or ''
local ids, count = {}, (#ARGV - 2) / 4
if digest == ARGV[#ARGV - 2] and ARGV[2] == '0' then
  for i, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', count)) do ids[count + 1 - i] = entry[1] end
  return {ids, digest}
end
if digest ~= ARGV[1] then return {ids, digest} end
for i = 3, #ARGV, 4 do
  local entry = {'d', ARGV[i + 1], 'k', ARGV[i + 2], 'r', ARGV[i + 3]}
  local id = redis.pcall('XADD', KEYS[1], ARGV[i] .. '-0', unpack(entry))
  if type(id) == 'table' then id = redis.call('XADD', KEYS[1], '*', unpack(entry)) end
  ids[#ids + 1] = id
end
if ARGV[2] ~= '0' then redis.call('XTRIM', KEYS[1], 'MAXLEN', redis.call('XLEN', KEYS[1]) - ARGV[2]) end
return {ids, ARGV[#ARGV - 2]}
"""
"""Append if the digest at the end is ARGV[1], and drop the ARGV[2] oldest; gives the new ids, none if it is not, and the digest
at the end now.

Where all stands at the end already, an earlier attempt arrived whose answer was lost: its ids are given, and nothing is
appended twice.

Each record is ARGV's next four: its time in ms, its digest, its kind and its text. An id is the record's own time, or comes
after the last id where that is not earlier: ids rise whatever the clocks of Redis and its replicas do, and none is below the
time of a record that stands before it.

Nothing is appended after somebody else's entry: no reader would come past it, so a revocation would be stored and not be heard.
"""

_PLACE = """
local place, digest, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if place ~= '0-0' then
  local there = redis.call('XRANGE', KEYS[1], place, place)[1]
  if not there or string.sub(there[2][2], 1, #digest) ~= digest then return false end
end
local function after(count)
  local read = redis.call('XREAD', 'COUNT', count, 'STREAMS', KEYS[1], place)
  return read and read[1][2] or {}
end
"""
"""What comes after ARGV[1], "0-0" or the id of an entry whose digest begins with ARGV[2]; nil where that is not there."""

READ = f"""{_PLACE}
return after(most)
"""
"""The entries, at most ARGV[3]."""

IN_FORCE = f"""{_PLACE}
local unwanted, found, last = {{}}, {{}}, nil
for i = 5, #ARGV do unwanted[ARGV[i]] = true end
for _, entry in ipairs(after(ARGV[4])) do
  last = entry
  if not unwanted[entry[2][4]] then found[#found + 1] = entry[2][6] or '' end
  if #found == most then break end
end
return last and {{#found, table.concat(found, ','), last[1], last[2][2]}} or {{}}
"""
"""The records, at most ARGV[3] out of ARGV[4] entries that are looked at, without the kinds in ARGV[5] and on.

Their number, their texts with commas between (one text: taking apart what a million entries consist of takes seconds), id and
digest of the entry looked at last; nothing at the end.
"""

CLAIM = """
local held = redis.call('GET', KEYS[1])
if held and tonumber(held) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
"""Claim for the one who asks, at the Unix second ARGV[1], until ARGV[2]: 1, or 0 where somebody holds it.

Redis forgets it after ARGV[3] ms.
"""
