-- packetclip_packet.log: the first packets of each flow, one JSON line each, in the form in which the Zeek package writes them.
--
-- Suricata 7.0: script of a detection rule that raises no alert (packetclip.rules), for its output scripts see no bare packet.
-- Suricata 8.0: packet output script, for its rule scripts may open no file. Which of the two runs it is told by _VERSION.
--
-- Written for cost: it runs for the first packets of every flow. Every detection thread has a Lua state of its own, so the
-- limits below count by thread, and all threads append to one file.

-- What a site may set: environment variables of Suricata, for example `Environment=PACKETCLIP_MAX_PACKETS=50` in its unit.
local function setting(name, default) return tonumber(os.getenv("PACKETCLIP_" .. name) or default) or default end
local MAX_PACKETS = setting("MAX_PACKETS", 100)      -- packets recorded per flow, both directions together
local MAX_BYTES = setting("MAX_BYTES", 128)          -- bytes recorded per packet, from the IP header on
local MAX_NEW_FLOWS = setting("MAX_NEW_FLOWS", 500)  -- flows to one host recorded of those that begin in a second; 0 for all

local NAME = "packetclip_packet.log"
local BUFFER_BYTES = 4000        -- most that is written at once: whole lines, so that those of two threads never mix
local FLUSH_S = 0.1              -- seconds of packet time after which what is held is written
local REOPEN_S = 5               -- seconds after which the file is opened anew: a renamed log is left, a lost one tried again
local ICMP_QUIET_S = 60          -- seconds after which the same ICMP error between two hosts is a new flow
local MAX_REMEMBERED = 100000    -- flows, addresses and ICMP errors kept in memory, each

local LUA_RULE = _VERSION == "Lua 5.1"
local floor, byte, sub, fmt, concat = math.floor, string.byte, string.sub, string.format, table.concat

-- Base64, three bytes at a time: pairs of letters by twelve bits.
local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local PAIRS = {}
for i = 0, 4095 do
  local high, low = floor(i / 64) + 1, i % 64 + 1
  PAIRS[i] = sub(LETTERS, high, high) .. sub(LETTERS, low, low)
end
local parts = {}
local function base64(s, i, last)
  local n = 0
  while i + 2 <= last do
    local a, b, c = byte(s, i, i + 2)
    parts[n + 1] = PAIRS[a * 16 + (b - b % 16) / 16]
    parts[n + 2] = PAIRS[(b % 16) * 256 + c]
    n, i = n + 2, i + 3
  end
  if i == last then
    n = n + 1
    parts[n] = PAIRS[byte(s, i) * 16] .. "=="
  elseif i < last then
    local a, b = byte(s, i, last)
    local low = (b % 16) * 4 + 1
    parts[n + 1] = PAIRS[a * 16 + (b - b % 16) / 16]
    n = n + 2
    parts[n] = sub(LETTERS, low, low) .. "="
  end
  return concat(parts, "", 1, n)
end

-- A table that forgets its older half when it is full: nothing here may grow with the traffic.
local function memory()
  local new, old, count = {}, {}, 0
  return {
    get = function(key)
      local value = new[key]
      if value == nil then return old[key] end
      return value
    end,
    set = function(key, value)
      if count >= MAX_REMEMBERED / 2 then new, old, count = {}, new, 0 end
      new[key], count = value, count + 1
    end,
  }
end

-- RFC 5952, as Zeek writes it; Suricata writes all eight groups in full.
local shortened = memory()
local function address(text)
  if not text:find(":", 1, true) then return text end
  local short = shortened.get(text)
  if short then return short end
  local groups = {}
  for group in text:gmatch("%x+") do groups[#groups + 1] = fmt("%x", tonumber(group, 16)) end
  local begin, length, i = 0, 1, 1                          -- the longest run of two zeros or more, the first of equals
  while i <= 8 do
    local after = i
    while groups[after] == "0" do after = after + 1 end
    if after - i > length then begin, length = i, after - i end
    i = after > i and after or i + 1
  end
  if begin == 0 then
    short = concat(groups, ":")
  else
    short = concat(groups, ":", 1, begin - 1) .. "::" .. concat(groups, ":", begin + length, 8)
  end
  shortened.set(text, short)
  return short
end

local function word(p, i)                                    -- 16 bits; -1 past the end
  local high, low = byte(p, i, i + 1)
  return low and high * 256 + low or -1
end

local function source(p, at, version)                        -- the source address in an IP header, as Suricata writes it
  if version == 4 then return fmt("%d.%d.%d.%d", byte(p, at + 12, at + 15)) end
  local groups = {}
  for i = 0, 7 do groups[i + 1] = fmt("%04x", word(p, at + 8 + 2 * i)) end
  return concat(groups, ":")
end

local IP_VERSION = { [0x0800] = 4, [0x86dd] = 6 }
local VLAN = { [0x8100] = true, [0x88a8] = true, [0x9100] = true }
local IPV4_FORGED, IPV6_FORGED = 40, 60                      -- bytes

-- Where the IP header begins in what Suricata captured, and its version. Nothing where it is not found, or where Suricata made
-- the packet up to end a stream: such a packet has no link header, no data, and a TCP window of 0x0a00.
local function ip_header(p, from)
  local at = 13
  local kind = word(p, at)
  while VLAN[kind] do
    at = at + 4
    kind = word(p, at)
  end
  at = at + 2
  if kind == 0x8847 then                                     -- MPLS: labels up to the one that says that it is the last
    while byte(p, at + 2) and byte(p, at + 2) % 2 == 0 do at = at + 4 end
    at = at + 4
    kind = floor((byte(p, at) or 0) / 16) == 6 and 0x86dd or 0x0800
  elseif kind == 0x8864 then                                 -- PPPoE: six bytes, and two for PPP's protocol
    kind = word(p, at + 6) == 0x57 and 0x86dd or 0x0800
    at = at + 8
  elseif not IP_VERSION[kind] and byte(p, 1) == 0 and IP_VERSION[word(p, 15)] then      -- Linux cooked
    at, kind = 17, word(p, 15)
  end
  local version = IP_VERSION[kind]
  if version and floor((byte(p, at) or 0) / 16) == version and at + 19 <= #p then return at, version end
  -- No link header: a tunnel's inner packet, one put together from fragments, a raw link, or made up.
  version = floor((byte(p, 1) or 0) / 16)
  if version == 4 and #p >= 20 and source(p, 1, 4) == from then
    if #p == IPV4_FORGED and word(p, 5) == 0 and byte(p, 9) == 64 and word(p, 35) == 0x0a00 then return end
    return 1, 4
  end
  if version == 6 and #p >= 40 and source(p, 1, 6) == from then
    if #p == IPV6_FORGED and word(p, 55) == 0x0a00 then return end
    return 1, 6
  end
end

local path, file, opened, flushed, held = nil, nil, 0, 0, 0
local function write(line, sec, now)
  if file == nil or sec - opened >= REOPEN_S or sec < opened then
    if file then file:close() end
    file = nil
    file = assert(io.open(path, "a"))
    file:setvbuf("full", 2 * BUFFER_BYTES)                   -- so that only a flush writes, whatever the file system's block is
    opened, flushed, held = sec, 0, 0
  end
  if held + #line > BUFFER_BYTES then
    assert(file:flush())
    flushed, held = now, 0
  end
  assert(file:write(line))
  held = held + #line
  if now - flushed >= FLUSH_S or now < flushed then
    assert(file:flush())
    flushed, held = now, 0
  end
end

-- Flows to a host in the second at hand, and those left out since the last one that was let in.
local second, begun, skipped = 0, {}, {}
local function too_many(host, sec)
  if MAX_NEW_FLOWS == 0 then return false end
  if sec ~= second then second, begun = sec, {} end
  local count = (begun[host] or 0) + 1
  begun[host] = count
  if count <= MAX_NEW_FLOWS then return false end
  skipped[host] = (skipped[host] or 0) + 1
  return true
end

-- ICMP types that answer each other; Zeek has the answer's type where others have the code.
local ANSWER = {
  [1] = { [8] = 0, [0] = 8, [13] = 14, [14] = 13, [15] = 16, [16] = 15, [17] = 18, [18] = 17, [10] = 9, [9] = 10 },
  [58] = { [128] = 129, [129] = 128, [133] = 134, [134] = 133, [135] = 136, [136] = 135, [139] = 140, [140] = 139,
           [130] = 131, [131] = 130, [144] = 145, [145] = 144 },
}
local NAMES = { [1] = "icmp", [6] = "tcp", [17] = "udp", [58] = "icmp" }
local LINE = '{"ts":%.0f.%06.0f,"uid":"%s","id.orig_h":"%s","id.orig_p":%.0f,"id.resp_h":"%s","id.resp_p":%.0f,"proto":"%s",'
  .. '"is_orig":%s,"n":%.0f,"len":%.0f,"data":"%s"%s}\n'

-- Record one packet. Takes the packet's bytes, its flow's id, the packets of the flow so far with this one, the packet's time,
-- addresses, protocol and ports (of ICMP: type and code), and the same of the flow. Returns true where no later packet of this
-- flow is to be recorded.
local errors = memory()
local function record(p, id, n, sec, usec, src, dst, proto, sp, dp, flow_src, flow_dst, flow_proto, flow_sp, flow_dp)
  local at, version = ip_header(p, src)
  if at == nil then return false end
  local uid = fmt("%.0f", id)
  local orig_h, orig_p, resp_h, resp_p = flow_src, flow_sp, flow_dst, flow_dp
  local is_orig = src == flow_src and (src ~= dst or sp == flow_sp)
  local about_another = (proto == 1 or proto == 58) and flow_proto ~= proto
  if about_another then                                      -- an ICMP error, which Suricata counts to the flow that it speaks of
    local key = src .. dst .. sp .. "." .. dp
    local own = errors.get(key)
    if own == nil or sec - own.last > ICMP_QUIET_S then
      own = { uid = uid .. "i", n = 0 }
      errors.set(key, own)
    end
    own.last, own.n = sec, own.n + 1
    uid, n, is_orig = own.uid, own.n, true
    orig_h, orig_p, resp_h, resp_p = src, sp, dst, dp
    if n > MAX_PACKETS then return false end
  elseif ANSWER[proto] then
    resp_p = ANSWER[proto][flow_sp] or resp_p
  end
  local more = ""
  if n == 1 then
    if too_many(resp_h, sec) then return not about_another end
    if skipped[resp_h] then
      more = fmt(',"skipped":%.0f', skipped[resp_h])
      skipped[resp_h] = nil
    end
  end
  local length = version == 4 and word(p, at + 2) or word(p, at + 4) + 40
  local last = at + (length < MAX_BYTES and length or MAX_BYTES) - 1
  if last > #p then last = #p end
  local line = fmt(LINE, sec, usec, uid, address(orig_h), orig_p, address(resp_h), resp_p, NAMES[proto] or "unknown_transport",
    is_orig and "true" or "false", n, length, base64(p, at, last), more)
  write(line, sec, sec + usec / 1e6)
  return false
end

-- Whatever fails costs this log some packets and Suricata nothing: one message, and another try after a while.
local waits_until, lost = nil, 0
local say
local function attempt(...)
  local sec = select(4, ...)
  if waits_until then
    if sec < waits_until and sec >= waits_until - REOPEN_S then
      lost = lost + 1
      return false
    end
  end
  local ok, result = pcall(record, ...)
  if not ok then
    if file then pcall(file.close, file) end
    file = nil
    if not waits_until then say("PacketCLIP: " .. tostring(result) .. "; tried again every " .. REOPEN_S .. " s") end
    waits_until, lost = sec + REOPEN_S, lost + 1
    return false
  end
  if waits_until then
    say(fmt("PacketCLIP: writes again; %.0f packets were not recorded", lost))
    waits_until, lost = nil, 0
  end
  return result
end

function init(args)
  if LUA_RULE then return { packet = "true" } end
  return { type = "packet" }
end

-- Suricata 7.0. What is returned as a match sets the flow's bit, and the rule asks no more for that flow.
function match(args)
  local to_server, _, to_client = SCFlowStats()
  if type(to_server) ~= "number" then return 0 end
  local n = to_server + to_client
  if n > MAX_PACKETS then return 1 end
  if path == nil then path, say = SCLogPath() .. "/" .. NAME, SCLogWarning end
  local sec, usec = SCPacketTimestamp()
  local _, src, dst, proto, sp, dp = SCPacketTuple()
  local _, flow_src, flow_dst, flow_proto, flow_sp, flow_dp = SCFlowTuple()
  return attempt(args["packet"], SCFlowId(), n, sec, usec, src, dst, proto, sp, dp,
    flow_src, flow_dst, flow_proto, flow_sp, flow_dp) and 1 or 0
end

-- Suricata 8.0.
local packet, flow
local done = memory()
function setup(args)
  local encode = require("suricata.base64").encode
  base64 = function(s, i, last) return encode(sub(s, i, last)) end
  packet, flow = require("suricata.packet"), require("suricata.flow")
  say = require("suricata.log").warning
  path = require("suricata.config").log_path() .. "/" .. NAME
end

function log(args)
  local f = flow.get()
  if f == nil then return end
  local to_server, _, to_client = f:stats()
  local n = to_server + to_client
  if n > MAX_PACKETS then return end
  local id = f:id()
  if done.get(id) then return end
  local p = packet.get()
  local sec, usec = p:timestamp()
  local _, src, dst, proto, sp, dp = p:tuple()
  local _, flow_src, flow_dst, flow_proto, flow_sp, flow_dp = f:tuple()
  if attempt(p:packet(), id, n, sec, usec, src, dst, proto, sp, dp, flow_src, flow_dst, flow_proto, flow_sp, flow_dp) then
    done.set(id, true)
  end
end

function deinit(args)
  if file then file:close() end
end
