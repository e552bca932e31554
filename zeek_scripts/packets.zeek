##! packetclip_packet.log: the first packets of each connection, one JSON line each, and ever fewer of the later ones, so that
##! its volume is known as it goes on; and the statistics over the first packets that packetclip_flow.log takes up.
##!
##! This is the only handler in the package that runs per packet, so it is written for cost. Zeek 8 raises an event for each of
##! a connection's first packets and for no other (`ConnThreshold::generic_packet_thresholds`), which is several times cheaper than
##! new_packet. Who sent a packet and how long it was is read from the connection's counters, so that no header is parsed; and
##! under a flood only so many new connections of each second are logged. The handlers stand in event groups, disabled when not needed.

@load base/frameworks/tunnels
@load base/protocols/conn
@load ./options

module PacketCLIP;

export {
	redef enum Log::ID += { PACKET_LOG };

	## A line of packetclip_packet.log.
	type PacketInfo: record {
		## Time of the packet as it was captured, epoch seconds. Zeek's own clock, which never runs backwards, would give one that
		## comes late the time of the packet before it.
		ts: time &log;
		## Zeek's id of the connection.
		uid: string &log;
		## Addresses and ports of the connection; for ICMP the ports are type and code.
		id: conn_id &log;
		## Transport protocol.
		proto: transport_proto &log;
		## True if the connection's originator sent the packet.
		is_orig: bool &log;
		## Index of the packet in its connection, from 1.
		n: count &log;
		## Length of the IP packet on the wire, bytes; of a datagram that arrived in fragments, the whole datagram's.
		len: count &log;
		## The first bytes of the packet from the IP header on, base64; of a tunnelled packet from the inner IP header on. Of a
		## datagram that arrived in fragments, the bytes of the fragment that completed it.
		data: string &log;
		## In a connection's first packet: connections to the same host that `max_new_connections` kept out of the log since the
		## last one that was let in.
		skipped: count &log &optional;
		## Beyond the first `max_packets`, where four packets an octave have a line (112, 128, 160, 192, 224, 256 ...): IP bytes of
		## the connection so far, both directions, this packet among them. Unset in every other line.
		bytes: count &log &optional;
	};

	## Packets of one endpoint, of those that were looked at.
	type Side: record {
		## Packets.
		n: count &default=1;
		## Sum of the IP lengths, bytes.
		bytes: count;
		## Sum of the squared IP lengths, bytes squared.
		squares: count;
		## Time of the first packet.
		first: time;
		## Time of the latest packet.
		last: time;
		## Sum of the squared gaps between packets, seconds squared.
		gap_squares: double &default=0.0;
	};

	## What is kept per connection.
	type State: record {
		## Transport protocol.
		proto: transport_proto;
		## Endpoint whose packets `a` counts: the originator when the first packet came. Zeek may swap the roles later.
		a_h: addr;
		## Port of that endpoint.
		a_p: port;
		## Index of the packet that was looked at last.
		n: count &default=0;
		## Packets of that endpoint so far.
		a_pkts: count &default=0;
		## IP bytes so far, both directions.
		bytes: count &default=0;
		## Packets of the endpoint `a_h`, `a_p`.
		a: Side &optional;
		## Packets of the other endpoint.
		b: Side &optional;
		## TCP packets with ACK alone, the most frequent flags.
		only_ack: count &default=0;
		## TCP packets with PSH and ACK alone, the next.
		only_psh_ack: count &default=0;
		## Other TCP packets with SYN.
		syn: count &default=0;
		## Other TCP packets with ACK.
		ack: count &default=0;
		## TCP packets with FIN.
		fin: count &default=0;
		## TCP packets with RST.
		rst: count &default=0;
		## Other TCP packets with PSH.
		psh: count &default=0;
		## TCP packets with URG.
		urg: count &default=0;
	};

	## How many connections to a host began in the second at hand.
	type Rate: record {
		## When the second began.
		second: time;
		## Connections in it.
		n: count &default=0;
		## Connections let in above the limit, of sources that came before; and of those that completed a handshake before.
		spared: count &default=0;
		spared_answered: count &default=0;
		## Connections not logged since the last one that was.
		skipped: count &default=0;
	};

	## A source that came to a host beside a flood.
	type Source: record {
		## When the second began in which `n` connections above the limit were let in.
		second: time;
		n: count &default=0;
		## Whether it completed a handshake, which no forged source does.
		answered: bool &default=F;
	};

	redef record connection += {
		packetclip: State &optional;
		## True once the interim row is written, false while connection thresholds watch for it, unset before.
		packetclip_interim: bool &optional;
		## True for a connection that is kept out of the packet log.
		packetclip_skipped: bool &optional;
	};

	## Break in this hook to keep a packet out of the log. It is also the place to see each record from another script: a
	## log event would cost each packet its queueing, handled or not.
	global log_policy_packet: Log::PolicyHook;

	## Packets that were not logged because their IP header was not found in the captured frame.
	global packets_without_header: count = 0;

	## Connections that were not logged because more than max_new_connections to one host began in a second. Sources that came
	## before the flood's, or again beside it, have a share of their own.
	global connections_skipped: count = 0;

	## True while packets are looked at.
	global packets_on: bool = T;

	## Called by the packet handler for a connection that reaches an interim threshold; flows.zeek writes the row.
	global interim_reached: function(c: connection);

	## Called by the packet handler for a connection that used up its packets before any interim threshold.
	global interim_watch: function(c: connection);
}

# Thresholds as the packet handler compares them: options folded together when they change.
global interim_at_packet: count = 0;
global interim_at_age: interval = 0sec;
global interim_on: bool = T;
global stop_at_packet: count = 0;

# Connections that began in the second at hand, by responding host.
global rates: table[addr] of Rate &read_expire=1min;

# Hosts in `rates` at most, but for those of which something was skipped.
const most_rates = 100000 &redef;

# Sources of the hosts that get nearly as many connections as are logged, by source and host: of the period at hand and of the
# one before it. Changing the tables costs less than an expiry of each entry, and bounds them.
global sources: table[addr, addr] of Source;
global sources_before: table[addr, addr] of Source;
global sources_since: time = double_to_time(0.0);

# How long a source is remembered at least, and how many are in a period.
const sources_period = 10sec;
const most_sources = 10000 &redef;

# Connections of a second from which on sources are remembered, and how many of those that came before are let in above the limit.
global watch_from: count = 0;
global spare: count = 0;

# Data link type 1, Ethernet, under the name that Zeek's enum has for this number.
const ethernet = enum_to_int(LINK_UNKNOWN) == 1 ? LINK_UNKNOWN : LINK_ETHERNET;

# Where the recorded bytes of a packet behind an Ethernet header end in the frame.
global last_byte: count = 0;

# TCP connections, and those of which the first packet came twice: each packet does where both directions, or two VLANs, of a
# link are mirrored. The sensor leaves copies out, but they would use up half of `max_packets`.
global handshakes: count = 0;
global handshakes_twice: count = 0;
global mirrored: bool = F;

# A copy comes so soon; no sender repeats a SYN within it.
const copy_within = 5msec;

# Packets for which Zeek 8 raises an event of its own, if it can; twice as many where each packet comes twice.
const counted_packets = 100;

# The latest packet of a connection that can have a line.
const last_counted: count = 1099511627776;

## Counts of packets that stand a quarter of a power of two apart: 1 to 8, 10, 12, 14, 16, 20 ... 112, 128, 160, 192, 224, 256 ...
function geometric_counts(): set[count]
	{
	local counts: set[count];
	local n: count = 1;
	while ( n <= last_counted )
		{
		add counts[n];
		local step: count = 1;
		while ( 8 * step <= n )
			step = 2 * step;
		n += step;
		}
	return counts;
	}

# Packets that have a line also beyond the first ones.
const volume_counts = geometric_counts();

@ifdef ( ConnThreshold::generic_packet_thresholds )
function counts_with_events(): set[count]
	{
	local counts = geometric_counts();
	local n: count = 0;
	while ( ++n <= 2 * counted_packets )
		add counts[n];
	return counts;
	}

redef ConnThreshold::generic_packet_thresholds += counts_with_events();
@endif

## An address as the bytes that stand in an IP header.
function address_bytes(a: addr): string
	{
	local s = "";
	local words = addr_to_counts(a);
	for ( i in words )
		s += hexstr_to_bytestring(fmt("%08x", words[i]));
	return s;
	}

## Protocol numbers of Zeek's transport protocols.
const protocol_numbers: table[transport_proto] of set[count] = {
	[tcp] = set(6),
	[udp] = set(17),
	[icmp] = set(1, 58),
};

## Whether these bytes can begin with the IP header of a connection's packet: version, protocol and ports, for an outer header
## may have the same addresses.
function is_ip_header(bytes: string, c: connection, is_orig: bool): bool
	{
	local version = bytestring_to_count(bytes[0]) / 16;
	local v4 = is_v4_addr(c$id$orig_h);
	if ( version != ( v4 ? 4 : 6 ) )
		return F;
	local proto = get_port_transport_proto(c$id$resp_p);
	if ( proto !in protocol_numbers || ! v4 )
		return T;
	if ( bytestring_to_count(bytes[9]) !in protocol_numbers[proto] )
		return F;
	if ( proto == icmp
	    || |bytes| < 24
	    || bytestring_to_count(bytes[6:8]) % 8192 != 0 )
		return T;
	local at = bytestring_to_count(bytes[0]) % 16 * 4;
	local port_of_sender = is_orig ? c$id$orig_p : c$id$resp_p;
	return bytestring_to_count(bytes[at : at + 2]) == port_to_count(
	    port_of_sender);
	}

## Find the IP header in a frame by its addresses, for what no fixed offset fits: tunnels, VLAN in VLAN, MPLS, PPPoE,
## Linux cooked, loopback, 802.11.
##
## frame: the captured bytes from the link header on.
##
## c: the connection that the packet belongs to.
##
## is_orig: whether its originator sent the packet.
##
## Returns: offset of the IP header; the frame's length if it is not there.
function find_ip_header(frame: string, c: connection, is_orig: bool): count
	{
	local src = is_orig ? c$id$orig_h : c$id$resp_h;
	local dst = is_orig ? c$id$resp_h : c$id$orig_h;
	local addresses = address_bytes(src) + address_bytes(dst);
	local before: count = is_v4_addr(src) ? 12 : 8;
	local from = before;

	while ( from + |addresses| <= |frame| )
		{
		local at = find_str(frame, addresses, from);
		if ( at < 0 )
			break;
		from = int_to_count(at) + 1;
		local off = int_to_count(at) - before;
		if ( is_ip_header(frame[off:], c, is_orig) )
			return off;
		}

	return |frame|;
	}

event zeek_init() &priority=4
	{
	create_json_stream(PACKET_LOG, Log::Stream($columns=PacketInfo,
	    $path="packetclip_packet", $policy=log_policy_packet));
	}

## Offset of the IP header behind an Ethernet header, with or without one VLAN tag; the frame's length if it is not there.
function usual_ip_header(c: connection, link: link_encap, frame: string): count
	{
	if ( link == ethernet && ( ! c?$tunnel || |c$tunnel| == 0 ) )
		{
		local ether_type = is_v4_addr(c$id$orig_h) ? "\x08\x00" : "\x86\xdd";
		if ( frame[12:14] == ether_type )
			return 14;
		if ( frame[12:14] == "\x81\x00" && frame[16:18] == ether_type )
			return 18;
		}
	return |frame|;
	}

## Length of an IP packet by its own header, bytes. Segmentation offloading leaves a length of zero; then all of the frame.
##
## frame: the captured bytes.
##
## off: offset of the IP header.
##
## frame_length: length of the frame on the wire.
function own_length(frame: string, off: count, frame_length: count): count
	{
	local v4 = bytestring_to_count(frame[off]) / 16 == 4;
	local length = v4 ? bytestring_to_count(frame[off + 2 : off + 4]) :
	    bytestring_to_count(frame[off + 4 : off + 6]) + 40;
	return length > 0 ? length : frame_length - off;
	}

## Where the header behind IPv6's extension headers begins, bytes from the IP header on, as the sensor counts it.
function ipv6_transport(frame: string, off: count): count
	{
	local at: count = 40;
	local next_header = bytestring_to_count(frame[off + 6]);
	local steps = 0;
	# Hop-by-hop options, routing, fragment, authentication, destination options, mobility.
	while ( next_header in set(0, 43, 44, 51, 60, 135)
	    && off + at + 8 <= |frame|
	    && ++steps <= 4 )
		{
		local words = bytestring_to_count(frame[off + at + 1]);
		local length: count = next_header == 44 ? 8 : ( next_header == 51 ? ( words + 2 ) * 4
		    : ( words + 1 ) * 8 );
		next_header = bytestring_to_count(frame[off + at]);
		at += length;
		}
	return at;
	}

## TCP flags of a packet, 0 where they were not captured.
function tcp_flags(frame: string, off: count): count
	{
	local first = frame[off];
	if ( first == "\x45" )
		return bytestring_to_count(frame[off + 33]);
	local header: count = bytestring_to_count(first) / 16 == 4 ?
	    bytestring_to_count(first) % 16 * 4 : ipv6_transport(frame, off);
	return bytestring_to_count(frame[off + header + 13]);
	}

## Count a TCP connection, and look at twice as many packets of each where the link is mirrored twice.
##
## again: whether its third packet still has a SYN, sooner than any sender repeats it.
function note_third_packet(again: bool)
	{
	++handshakes;
	if ( again )
		++handshakes_twice;
	if ( handshakes % 8 != 0 )
		return;
	mirrored = 2 * handshakes_twice > handshakes;
	stop_at_packet = mirrored ? 2 * max_packets : max_packets;
	if ( handshakes >= 1024 )
		{
		handshakes = handshakes / 2;
		handshakes_twice = handshakes_twice / 2;
		}
	}

event PacketCLIP::options_changed() &priority=5
	{
	local never: count = 18446744073709551615;
	interim_on = log_flows && interim_rows;
	interim_at_packet = interim_packets > 0 ? interim_packets : never;
	interim_at_age = interim_age > 0sec ? interim_age : 36500day;
	stop_at_packet = mirrored ? 2 * max_packets : max_packets;
	last_byte = 14 + max_bytes;
	watch_from = max_new_connections / 2;
	spare = max_new_connections / 5;

	packets_on = log_packets && max_packets > 0;
	local counted = F;
@ifdef ( ConnThreshold::generic_packet_thresholds )
	counted = max_packets <= counted_packets;
@endif
	if ( packets_on && counted )
		enable_event_group("packetclip-first-packets");
	else
		disable_event_group("packetclip-first-packets");
	if ( packets_on && ! counted )
		enable_event_group("packetclip-every-packet");
	else
		disable_event_group("packetclip-every-packet");
	}

## Count a packet into the columns of the flow log.
##
## s: the connection's state.
##
## from_a: whether endpoint `a_h`, `a_p` sent it.
##
## len: length of the IP packet, bytes.
##
## frame: the captured bytes.
##
## off: offset of the IP header in it.
function add_to_statistics(s: State, from_a: bool, len: count, frame: string,
    off: count)
	{
	local now = network_time();
	# Sums of integers are exact, and the gaps of one direction add up to its last time minus its first, so running means
	# (Welford) would cost more and gain nothing.
	if ( from_a ? s?$a : s?$b )
		{
		local side = from_a ? s$a : s$b;
		local gap = ( now - side$last ) / 1sec;
		++side$n;
		side$bytes += len;
		side$squares += len * len;
		side$gap_squares += gap * gap;
		side$last = now;
		}
	else
		{
		local new_side = Side($bytes=len, $squares=len * len, $first=now, $last=now);
		if ( from_a )
			s$a = new_side;
		else
			s$b = new_side;
		}

	if ( s$proto == tcp )
		{
		local flags = tcp_flags(frame, off);
		if ( flags == TH_ACK )
			++s$only_ack;
		else if ( flags == 24 ) # TH_PUSH and TH_ACK
			++s$only_psh_ack;
		else
			{
			if ( flags & TH_SYN != 0 )
				++s$syn;
			if ( flags & TH_ACK != 0 )
				++s$ack;
			if ( flags & TH_FIN != 0 )
				++s$fin;
			if ( flags & TH_RST != 0 )
				++s$rst;
			if ( flags & TH_PUSH != 0 )
				++s$psh;
			if ( flags & TH_URG != 0 )
				++s$urg;
			}
		}
	}

## Forget the hosts of which nothing was skipped.
function forget_rates()
	{
	local kept: table[addr] of Rate &read_expire=1min;
	for ( host, rate in rates )
		if ( rate$skipped > 0 )
			kept[host] = rate;
	rates = kept;
	}

## Whether a source came to a host in this period or in the one before. If not, it is remembered from now on, unless that many
## others were that the table would be full before its time: a flood's forged sources come in at an even rate, and never twice.
function came_before(orig: addr, resp: addr, now: time): bool
	{
	if ( now - sources_since >= sources_period )
		{
		sources_before = now - sources_since < 2 * sources_period ? sources : table();
		sources = table();
		sources_since = now;
		}
	if ( [orig, resp] in sources )
		return T;
	if ( [orig, resp] in sources_before )
		{
		sources[orig, resp] = sources_before[orig, resp];
		return T;
		}
	if ( |sources| <= most_sources * ( ( now - sources_since ) / sources_period ) )
		sources[orig, resp] = Source($second=now);
	return F;
	}

## Whether a connection above the limit is let in, since its source came before: so a flood of forged sources hides no other one,
## and one loud source leaves room for others.
function is_spared(rate: Rate, source: Source, now: time): bool
	{
	if ( now - source$second >= 1sec )
		{
		source$second = now;
		source$n = 0;
		}
	if ( source$n >= spare / 4 )
		return F;
	if ( source$answered && rate$spared_answered < spare )
		++rate$spared_answered;
	else if ( rate$spared < spare )
		++rate$spared;
	else
		return F;
	++source$n;
	return T;
	}

## Remember that a source completed a handshake, where sources are watched.
function note_handshake(c: connection)
	{
	local id = c$id;
	if ( c$orig$state != TCP_ESTABLISHED || c$resp$state != TCP_ESTABLISHED )
		return;
	if ( [id$orig_h, id$resp_h] in sources )
		sources[id$orig_h, id$resp_h]$answered = T;
	else if ( [id$orig_h, id$resp_h] in sources_before )
		sources_before[id$orig_h, id$resp_h]$answered = T;
	}

## Whether a connection is the outside of a tunnel (VXLAN, GENEVE, Teredo, AYIYA, GTP): what is in its packets is logged under the
## inner connections, of which Zeek has seen one. A service that Zeek confirmed says less: any datagram to port 4789 may look like
## VXLAN. Proxies, which Zeek calls tunnels as well, are TCP, and nothing in them is logged elsewhere.
function is_tunnel(c: connection): bool
	{
	return get_port_transport_proto(c$id$resp_p) == udp && c$id in Tunnel::active;
	}

## Whether a connection that begins is one too many for its responding host in this second.
function too_many(c: connection): bool
	{
	local host = c$id$resp_h;
	local now = network_time();
	if ( host !in rates )
		{
		if ( |rates| >= most_rates )
			forget_rates();
		rates[host] = Rate($second=now);
		}
	local rate = rates[host];
	if ( now - rate$second >= 1sec )
		{
		rate$second = now;
		rate$n = rate$spared = rate$spared_answered = 0;
		}
	if ( ++rate$n <= watch_from )
		return F;
	local orig = c$id$orig_h;
	local known = came_before(orig, host, now);
	if ( rate$n <= max_new_connections
	    || ( known && is_spared(rate, sources[orig, host], now) ) )
		return F;
	++rate$skipped;
	++connections_skipped;
	c$packetclip_skipped = T;
	return T;
	}

## Connections to a host that were kept out of the log since the last one that was let in; the count starts anew.
function skipped_before(host: addr): count
	{
	if ( host !in rates )
		return 0;
	local skipped = rates[host]$skipped;
	rates[host]$skipped = 0;
	return skipped;
	}

## Look at a packet of a connection. Called for each of its first packets, so every statement counts.
##
## c: the connection, its counters with this packet.
##
## n: index of the packet in its connection, from 1.
function look(c: connection, n: count)
	{
	local beyond = n > stop_at_packet;
	if ( beyond && n !in volume_counts )
		return;

	# The packet behind a handshake, also of a connection that is not logged.
	if ( n == 4 && |sources| > 0 )
		note_handshake(c);

	local id = c$id;
	if ( ! c?$packetclip )
		{
		if ( c?$packetclip_skipped || ( |Tunnel::active| > 0 && is_tunnel(c) ) )
			return;
		if ( n == 1 && max_new_connections > 0 && too_many(c) )
			return;
		c$packetclip = State($proto=get_port_transport_proto(id$resp_p),
		    $a_h=id$orig_h, $a_p=id$orig_p);
		}
	local s = c$packetclip;
	local pkt = get_current_packet();
	local frame = pkt$data;

	# Zeek may have swapped the roles.
	local same = s$a_p == id$orig_p && s$a_h == id$orig_h;
	local a_pkts = same ? c$orig$num_pkts : c$resp$num_pkts;
	local bytes = c$orig$num_bytes_ip + c$resp$num_bytes_ip;
	local len = bytes - s$bytes;
	local from_a = a_pkts > s$a_pkts;
	# Where packets before this one were not looked at, or Zeek changed the sides behind the first one (the "^" of its history)
	# and left its counters as they were, the frame has to say who sent it.
	local late = ++s$n != n || ( n == 1 && |c$history| > 1 );
	s$a_pkts = a_pkts;
	s$bytes = bytes;

	local off: count = 14;
	local end = last_byte;
	# A whole frame that is 14 bytes longer than its packet has room for nothing but the Ethernet header.
	if ( pkt$len != len + 14
	    || |frame| < pkt$len
	    || pkt$link_type != ethernet
	    || late )
		{
		if ( late )
			{
			s$n = n;
			from_a = same == ( find_ip_header(frame, c, T) < |frame| );
			}
		# The frame's own length is the value for "not found".
		off = usual_ip_header(c, pkt$link_type, frame);
		if ( off == |frame| )
			off = find_ip_header(frame, c, from_a == same);
		if ( off == |frame| )
			{
			++packets_without_header;
			off = end = 0;
			}
		else
			{
			if ( late || len == 0 )
				len = own_length(frame, off, pkt$len);
			# Not past the packet's own end: short Ethernet frames are padded. A fragment has a length of its own.
			local size = off + len > |frame| ? own_length(frame, off, pkt$len) : len;
			end = off + ( size > max_bytes ? max_bytes : size );
			}
		}

	if ( end > 0 )
		{
		# Zeek 7.1 and later.
@ifdef ( get_current_packet_ts )
		local ts = get_current_packet_ts();
@else
		local ts = double_to_time(pkt$ts_sec + pkt$ts_usec / 1000000.0);
@endif
		local info = PacketInfo($ts=ts, $uid=c$uid, $id=id, $proto=s$proto,
		    $is_orig=from_a == same, $n=n, $len=len,
		    $data=encode_base64(frame[off:end]));
		if ( n < 4 )
			{
			if ( n == 1 && connections_skipped > 0 )
				{
				local skipped = skipped_before(id$resp_h);
				if ( skipped > 0 )
					info$skipped = skipped;
				}
			if ( n == 3 && s$proto == tcp )
				note_third_packet(tcp_flags(frame, off) & TH_SYN != 0
				    && network_time() - c$start_time < copy_within);
			}
		if ( beyond )
			info$bytes = bytes;
		# What Log::write calls.
		Log::__write(PACKET_LOG, info);
		}

	if ( packet_statistics && log_flows && ! beyond )
		add_to_statistics(s, from_a, len, frame, off);
	if ( interim_on && ! c?$packetclip_interim )
		{
		if ( n >= interim_at_packet || c$duration >= interim_at_age )
			interim_reached(c);
		else if ( n >= stop_at_packet )
			interim_watch(c);
		}
	}

@ifdef ( ConnThreshold::generic_packet_thresholds )
event conn_generic_packet_threshold_crossed(c: connection, threshold: count)
    &group="packetclip-first-packets"
	{
	look(c, threshold);
	}
@endif

event PacketCLIP::look_behind_others(c: connection)
	{
	look(c, 1);
	}

event new_packet(c: connection, p: pkt_hdr) &group="packetclip-every-packet"
	{
	# The record at hand was filled before the packet in hand was counted; the lookup fills it anew.
	local next_n = c$orig$num_pkts + c$resp$num_pkts + 1;
	if ( next_n > stop_at_packet && next_n !in volume_counts )
		return;
	if ( ! connection_exists(c$id) )
		return;
	lookup_connection(c$id);
	local n = c$orig$num_pkts + c$resp$num_pkts;
	# Here the outside of a tunnel comes before its inside, which has to be seen first.
	if ( n == 1 && get_port_transport_proto(c$id$resp_p) == udp )
		event PacketCLIP::look_behind_others(c);
	else
		look(c, n);
	}

event zeek_done()
	{
	if ( connections_skipped > 0 )
		Reporter::info(fmt("PacketCLIP: %d connections not logged, more than max_new_connections to one host in a second",
		    connections_skipped));
	if ( packets_without_header > 0 )
		Reporter::info(fmt("PacketCLIP: %d packets not logged, no IP header found in the captured frame",
		    packets_without_header));
	}
