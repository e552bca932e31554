##! packetclip_packet.log: the first packets of each connection, one JSON line each, and the statistics over them that
##! packetclip_flow.log takes up.
##!
##! This is the only handler in the package that runs per packet, so it is written for cost: state is one record in the
##! connection, statistics are running sums, and the link header is skipped by its type field. Zeek raises new_packet for
##! every packet once any handler exists, so the handler stands in an event group that is disabled when it is not needed.

@load base/protocols/conn
@load ./options

module PacketCLIP;

export {
	redef enum Log::ID += { PACKET_LOG };

	## A line of packetclip_packet.log.
	type PacketInfo: record {
		## Time of the packet, epoch seconds.
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
		## True if both endpoints have the same address, so that only ports tell them apart.
		one_host: bool;
		## Packets looked at, both directions.
		n: count &default=0;
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

	redef record connection += {
		packetclip: State &optional;
		## True once the interim row is written, false while connection thresholds watch for it, unset before.
		packetclip_interim: bool &optional;
	};

	## Break in this hook to keep a packet out of the log. It is also the place to see each record from another script: a
	## log event would cost each packet its queueing, handled or not.
	global log_policy_packet: Log::PolicyHook;

	## Packets that were not logged because their IP header was not found in the captured frame.
	global packets_without_header: count = 0;

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

# Data link type of Ethernet; Zeek passes the number on under whatever name its enum has for it.
const ethernet = 1;

## Port a packet came from: the type in the place of the port for ICMP, as in Zeek's connection ids.
function source_port(p: pkt_hdr): port
	{
	if ( p?$tcp )
		return p$tcp$sport;
	if ( p?$udp )
		return p$udp$sport;
	if ( p?$icmp )
		return count_to_port(p$icmp$icmp_type, icmp);
	return 0/unknown;
	}

## An address as the bytes that stand in an IP header.
function address_bytes(a: addr): string
	{
	local s = "";
	local words = addr_to_counts(a);
	for ( i in words )
		s += hexstr_to_bytestring(fmt("%08x", words[i]));
	return s;
	}

## Whether these bytes can begin with the header that Zeek parsed, judged by what fragments share with their datagram.
function is_ip_header(bytes: string, p: pkt_hdr): bool
	{
	local version = bytestring_to_count(bytes[0]) / 16;
	if ( p?$ip )
		return version == 4
		    && bytestring_to_count(bytes[4:6]) == p$ip$id
		    && bytestring_to_count(bytes[9]) == p$ip$p;
	return version == 6 && bytestring_to_count(bytes[7]) == p$ip6$hlim;
	}

## Find the IP header in a frame by its addresses, for what no fixed offset fits: tunnels, VLAN in VLAN, MPLS, PPPoE,
## Linux cooked, loopback, 802.11. An outer header with the same addresses is told apart by id and protocol (IPv4) or by hop
## limit (IPv6).
##
## frame: the captured bytes from the link header on.
##
## p: the headers that Zeek parsed from the packet.
##
## Returns: offset of the IP header; the frame's length if it is not there.
function find_ip_header(frame: string, p: pkt_hdr): count
	{
	local v4 = p?$ip;
	local addresses = v4 ? address_bytes(p$ip$src) + address_bytes(p$ip$dst) :
	    address_bytes(p$ip6$src) + address_bytes(p$ip6$dst);
	local before: count = v4 ? 12 : 8;
	local from = before;

	while ( from + |addresses| <= |frame| )
		{
		local at = find_str(frame, addresses, from);
		if ( at < 0 )
			break;
		from = int_to_count(at) + 1;
		local off = int_to_count(at) - before;
		if ( is_ip_header(frame[off:], p) )
			return off;
		}

	return |frame|;
	}

event zeek_init() &priority=4
	{
	create_json_stream(PACKET_LOG, Log::Stream($columns=PacketInfo,
	    $path="packetclip_packet", $policy=log_policy_packet));
	}

event PacketCLIP::options_changed() &priority=5
	{
	local never: count = 18446744073709551615;
	interim_on = log_flows && interim_rows;
	interim_at_packet = interim_packets > 0 ? interim_packets : never;
	interim_at_age = interim_age > 0sec ? interim_age : 36500day;
	stop_at_packet = max_packets;

	packets_on = log_packets && max_packets > 0;
	if ( packets_on )
		enable_event_group("packetclip-packets");
	else
		disable_event_group("packetclip-packets");
	}

event new_packet(c: connection, p: pkt_hdr) &group="packetclip-packets"
	{
	if ( ! c?$packetclip )
		c$packetclip = State($proto=get_port_transport_proto(c$id$resp_p),
		    $a_h=c$id$orig_h, $a_p=c$id$orig_p,
		    $one_host=c$id$orig_h == c$id$resp_h);

	local s = c$packetclip;
	if ( s$n >= stop_at_packet )
		return;

	local n = ++s$n;
	local v4 = p?$ip;
	local src = v4 ? p$ip$src : p$ip6$src;
	local len = v4 ? p$ip$len : p$ip6$len + 40;
	local now = network_time();
	# By address, not by Zeek's own flag, which no event carries.
	local is_orig = src == c$id$orig_h;
	local from_a = src == s$a_h;
	if ( s$one_host )
		{
		local sport = source_port(p);
		is_orig = sport == c$id$orig_p;
		from_a = sport == s$a_p;
		}

	local pkt = get_current_packet();
	local frame = pkt$data;
	# The frame's own length is the value for "not found".
	local none = |frame|;
	local off = none;
	if ( enum_to_int(pkt$link_type) == ethernet )
		{
		# A frame that is 14 bytes longer than its packet has room for nothing but the Ethernet header.
		if ( pkt$len == len + 14 )
			off = 14;
		else if ( ! c?$tunnel || |c$tunnel| == 0 )
			{
			local ether_type = v4 ? "\x08\x00" : "\x86\xdd";
			if ( frame[12:14] == ether_type )
				off = 14;
			else if ( frame[12:14] == "\x81\x00" && frame[16:18] == ether_type )
				off = 18;
			}
		}
	if ( off == none )
		off = find_ip_header(frame, p);

	if ( off == none )
		++packets_without_header;
	else
		{
		# Segmentation offloading leaves a length of zero.
		if ( v4 && len == 0 )
			len = pkt$len - off;
		# Not past the packet's own end: short Ethernet frames are padded. Each fragment has a length of its own.
		local size = len;
		if ( v4 && p$ip$MF )
			size = bytestring_to_count(frame[off + 2 : off + 4]);
		if ( size > max_bytes )
			size = max_bytes;
		Log::write(PACKET_LOG, PacketInfo($ts=now, $uid=c$uid, $id=c$id,
		    $proto=s$proto, $is_orig=is_orig, $n=n, $len=len,
		    $data=encode_base64(frame[off : off + size])));
		}

	if ( ! log_flows )
		return;

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

	if ( p?$tcp )
		{
		local flags = p$tcp$flags;
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

	if ( ! interim_on || c?$packetclip_interim )
		return;

	if ( n >= interim_at_packet || now - c$start_time >= interim_at_age )
		interim_reached(c);
	else if ( n >= stop_at_packet )
		interim_watch(c);
	}

event zeek_done()
	{
	if ( packets_without_header > 0 )
		Reporter::info(fmt("PacketCLIP: %d packets not logged, no IP header found in the captured frame",
		    packets_without_header));
	}
