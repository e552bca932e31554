-- packetclip_packet.log: the first packets of each flow, one JSON line each, and ever fewer of the later ones, with the flow's bytes
-- so far, in the form in which the Zeek package writes them.
--
-- Suricata 7.0: script of a detection rule that raises no alert (packetclip.rules), for its output scripts see no bare packet.
-- Suricata 8.0: packet output script, for its rule scripts may open no file. Which of the two runs it is told by _VERSION.
--
-- Written for cost: it runs for every packet and at once leaves those that have no line. In 7.0 every detection thread has a Lua state
-- of its own, so the limits below count by thread, and all threads append to one file; 8.0 has one state, which the threads enter one
-- after the other.

-- What a site may set: environment variables of Suricata, for example `Environment=PACKETCLIP_MAX_PACKETS=50` in its unit.
local function setting(name, default) return tonumber(os.getenv("PACKETCLIP_" .. name) or default) or default end
local MAX_PACKETS = setting("MAX_PACKETS", 100)      -- packets recorded per flow, both directions together
local MAX_BYTES = setting("MAX_BYTES", 128)          -- bytes recorded per packet, from the IP header on
local MAX_NEW_FLOWS = setting("MAX_NEW_FLOWS", 500)  -- flows to one host recorded of those that begin in a second; 0 for all

local NAME = "packetclip_packet.log"
local REOPEN_S = 5               -- seconds after which the file is opened anew: a renamed log is left, a lost one tried again
local ICMP_QUIET_S = 60          -- seconds after which the same ICMP error between two hosts is a new flow
local MAX_REMEMBERED = 100000    -- flows, addresses and ICMP errors kept in memory, each

-- Counts of packets beyond the first ones at which a flow has a line: 112, 128, 160, 192, 224, 256 ..., four an octave.
local COUNTED, step = { true, true, true }, 1
for _ = 2, 40 do
  for quarter = 4, 7 do COUNTED[quarter * step] = true end
  step = 2 * step
end

local LUA_RULE = _VERSION == "Lua 5.1"
local floor, byte, char, sub, fmt, concat = math.floor, string.byte, string.char, string.sub, string.format, table.concat

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
      if new[key] == nil then
        if count >= MAX_REMEMBERED / 2 then new, old, count = {}, new, 0 end
        count = count + 1
      end
      new[key] = value
    end,
  }
end

-- RFC 5952, as Zeek writes it; Suricata writes all eight groups in full.
local shortened = memory()
local function short_v6(text)
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

local function packed(address)                               -- an address as its bytes in an IP header
  if address:find(":", 1, true) then
    return (address:gsub("(%x%x)(%x%x):?", function(a, b) return char(tonumber(a, 16), tonumber(b, 16)) end))
  end
  return (address:gsub("(%d+)%.?", char))
end

local IP_VERSION = { [0x0800] = 4, [0x86dd] = 6 }
local VLAN = { [0x8100] = true, [0x88a8] = true, [0x9100] = true }

-- A packet that Suricata made up to end a stream: no link header, no data, and a TCP window that nobody else has.
local function made_up(p, version)
  if version == 4 then return #p == 40 and word(p, 5) == 0 and byte(p, 9) == 64 and word(p, 35) == 0x0a00 end
  return #p == 60 and word(p, 55) == 0x0a00
end

-- Where the IP header begins in what Suricata captured, and its version; nothing where it is not found. Behind Ethernet and VLAN
-- tags by its type, behind everything else (MPLS, PPPoE, Linux cooked, loopback, none) by its addresses.
local function ip_header(p, src, dst)
  local at = 13
  local kind = word(p, at)
  while VLAN[kind] do
    at = at + 4
    kind = word(p, at)
  end
  local version = IP_VERSION[kind]
  if version and floor((byte(p, at + 2) or 0) / 16) == version then return at + 2, version end
  version = src:find(":", 1, true) and 6 or 4
  local before = version == 6 and 8 or 12                    -- bytes of the header before its addresses
  local addresses = packed(src) .. packed(dst)
  local found = p:find(addresses, before + 1, true)
  while found do
    at = found - before
    if floor(byte(p, at) / 16) == version then
      if at == 1 and made_up(p, version) then return end
      return at, version
    end
    found = p:find(addresses, found + 1, true)
  end
end

-- Each line is written at once and whole, by one call of the system: so the lines of two threads never mix, the last line of a burst
-- does not wait for the next packet, and a Suricata that is killed has lost nothing. It costs 5 % more than writing many together.
local path, file, opened, failed = nil, nil, 0, false
local function write(line, sec)
  if file == nil or sec - opened >= REOPEN_S or sec < opened then
    if file then file:close() end
    file = nil
    file = assert(io.open(path, "a"))
    file:setvbuf("no")                                       -- so a line goes to the system as it is, in one call
    opened = sec
    if failed then                                           -- what failed may have left the beginning of a line
      line = "\n" .. line
      failed = false
    end
  end
  assert(file:write(line))
end

-- Flows to a host in the second at hand, and those left out since the last one that was let in.
local second, begun, skipped = 0, {}, memory()
local function too_many(host, sec)
  if MAX_NEW_FLOWS == 0 then return false end
  if sec ~= second then second, begun = sec, {} end
  local count = (begun[host] or 0) + 1
  begun[host] = count
  if count <= MAX_NEW_FLOWS then return false end
  skipped.set(host, (skipped.get(host) or 0) + 1)
  return true
end

-- ICMP types that answer each other; Zeek has the answer's type where others have the code.
local ANSWER = {
  [1] = { [8] = 0, [0] = 8, [13] = 14, [14] = 13, [15] = 16, [16] = 15, [17] = 18, [18] = 17, [10] = 9, [9] = 10 },
  [58] = { [128] = 129, [129] = 128, [133] = 134, [134] = 133, [135] = 136, [136] = 135, [139] = 140, [140] = 139,
           [130] = 131, [131] = 130, [144] = 145, [145] = 144 },
}
local NAMES = { [1] = "icmp", [6] = "tcp", [17] = "udp", [58] = "icmp" }
local LINE = '{"ts":%d.%06d,"uid":"%s","id.orig_h":"%s","id.orig_p":%d,"id.resp_h":"%s","id.resp_p":%d,"proto":"%s",'
  .. '"is_orig":%s,"n":%d,"len":%d,"data":"%s"%s}\n'

-- Record one packet. Takes the packet's bytes, its flow's id, packets and bytes of the flow so far with this one, the packet's time,
-- addresses, protocol and ports (of ICMP: type and code), and the same of the flow. Returns true where no later packet of this
-- flow is to be recorded.
local errors = memory()
local function record(p, id, n, bytes, sec, usec, src, dst, proto, sp, dp, flow_src, flow_dst, flow_proto, flow_sp, flow_dp)
  local at, version = ip_header(p, src, dst)
  if at == nil then return false end
  local uid = fmt("%d", id)
  local orig_h, orig_p, resp_h, resp_p = flow_src, flow_sp, flow_dst, flow_dp
  local is_orig = src == flow_src and (src ~= dst or sp == flow_sp)
  local own
  if (proto == 1 or proto == 58) and flow_proto ~= proto then       -- an ICMP error, which Suricata counts to the flow that it quotes
    local key = src .. dst .. sp .. "." .. dp
    own = errors.get(key)
    if own == nil or sec - own.last > ICMP_QUIET_S then
      own = { uid = uid .. "i", n = 0, bytes = 0 }
      errors.set(key, own)
    end
    own.last, own.n = sec, own.n + 1
    uid, n, is_orig = own.uid, own.n, true
    orig_h, orig_p, resp_h, resp_p = src, sp, dst, dp
  elseif ANSWER[proto] then
    resp_p = ANSWER[proto][flow_sp] or resp_p
  end
  local more = ""
  if n == 1 then
    if too_many(resp_h, sec) then return not own end
    local count = skipped.get(resp_h) or 0
    if count > 0 then
      more = fmt(',"skipped":%d', count)
      skipped.set(resp_h, 0)
    end
  end
  local length = version == 4 and word(p, at + 2) or word(p, at + 4) + 40
  bytes = bytes - n * (at - 1)                               -- less the link headers, which Suricata counts in
  if own then
    own.bytes = own.bytes + length
    bytes = own.bytes
    if n > MAX_PACKETS and not COUNTED[n] then return false end
  end
  if n > MAX_PACKETS then more = fmt('%s,"bytes":%d', more, bytes) end
  if #orig_h > 15 then orig_h, resp_h = short_v6(orig_h), short_v6(resp_h) end   -- longer than any of IPv4
  local last = at + (length < MAX_BYTES and length or MAX_BYTES) - 1
  if last > #p then last = #p end
  local line = fmt(LINE, sec, usec, uid, orig_h, orig_p, resp_h, resp_p, NAMES[proto] or "unknown_transport",
    is_orig and "true" or "false", n, length, base64(p, at, last), more)
  write(line, sec)
  return false
end

-- Whatever fails costs this log some packets and Suricata nothing: one message, and another try after a while.
local waits_until, lost = nil, 0
local say
local function attempt(p, id, n, bytes, sec, usec, src, dst, proto, sp, dp, flow_src, flow_dst, flow_proto, flow_sp, flow_dp)
  if waits_until then
    if sec < waits_until and sec >= waits_until - REOPEN_S then
      lost = lost + 1
      return false
    end
  end
  local ok, result = pcall(record, p, id, n, bytes, sec, usec, src, dst, proto, sp, dp,
    flow_src, flow_dst, flow_proto, flow_sp, flow_dp)
  if not ok then
    if file then pcall(file.close, file) end
    file, failed = nil, true
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
  local to_server, bytes_there, to_client, bytes_back = SCFlowStats()
  if type(to_server) ~= "number" then return 0 end
  local n = to_server + to_client
  if n > MAX_PACKETS and not COUNTED[n] then return 0 end
  if path == nil then path, say = SCLogPath() .. "/" .. NAME, SCLogWarning end
  local sec, usec = SCPacketTimestamp()
  local _, src, dst, proto, sp, dp = SCPacketTuple()
  local flow_src, flow_dst, flow_proto, flow_sp, flow_dp = src, dst, proto, sp, dp   -- as a flow's first packet has them
  if n > 1 or to_client > 0 then _, flow_src, flow_dst, flow_proto, flow_sp, flow_dp = SCFlowTuple() end
  return attempt(args["packet"], SCFlowId(), n, bytes_there + bytes_back, sec, usec, src, dst, proto, sp, dp,
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
  local to_server, bytes_there, to_client, bytes_back = f:stats()
  local n = to_server + to_client
  if n > MAX_PACKETS and not COUNTED[n] then return end
  local id = f:id()
  if done.get(id) then return end
  local p = packet.get()
  local sec, usec = p:timestamp()
  local _, src, dst, proto, sp, dp = p:tuple()
  local flow_src, flow_dst, flow_proto, flow_sp, flow_dp = src, dst, proto, sp, dp
  if n > 1 or to_client > 0 then _, flow_src, flow_dst, flow_proto, flow_sp, flow_dp = f:tuple() end
  if attempt(p:packet(), id, n, bytes_there + bytes_back, sec, usec, src, dst, proto, sp, dp,
    flow_src, flow_dst, flow_proto, flow_sp, flow_dp) then
    done.set(id, true)
  end
end

function deinit(args)
  if file then file:close() end
end
