##! packetclip_flow.log: conn.log's columns under Zeek's names with a community id, and what packets.zeek measured on the
##! connection's first packets and protocols.zeek of what Zeek's analyzers said. One final row for each connection, one interim row
##! for a connection that lives long, and one each time that its log-ins or like requests reach 3, 10, 30, 100 ...

@load base/misc/version
@load base/protocols/conn
@load ./options
@load ./packets
@load ./protocols

module PacketCLIP;

export {
	redef enum Log::ID += { FLOW_LOG };

	## A row of packetclip_flow.log. What is not known is left out, never zero.
	type FlowInfo: record {
		## Time of the connection's first packet, epoch seconds.
		ts: time &log;
		## Zeek's id of the connection.
		uid: string &log;
		## Addresses and ports of the connection; for ICMP the ports are type and code.
		id: conn_id &log;
		## Transport protocol.
		proto: transport_proto &log;
		## False in the interim row of a connection that still lives.
		final: bool &log;
		## Protocols that Zeek's analyzers confirmed, separated by commas.
		service: string &log &optional;
		## Time from the first packet to the last, seconds.
		duration: interval &log &optional;
		## Payload bytes from the originator.
		orig_bytes: count &log &optional;
		## Payload bytes from the responder.
		resp_bytes: count &log &optional;
		## State of the connection in conn.log's words; in an interim row, so far.
		conn_state: string &log &optional;
		## True if the originator is in the site's networks.
		local_orig: bool &log &optional;
		## True if the responder is in the site's networks.
		local_resp: bool &log &optional;
		## Bytes missing in content gaps.
		missed_bytes: count &log &optional;
		## State history as letters.
		history: string &log &optional;
		## Packets from the originator.
		orig_pkts: count &log &optional;
		## IP bytes from the originator.
		orig_ip_bytes: count &log &optional;
		## Packets from the responder.
		resp_pkts: count &log &optional;
		## IP bytes from the responder.
		resp_ip_bytes: count &log &optional;
		## Protocol number in the IP header.
		ip_proto: count &log &optional;
		## Community ID, version 1, seed 0.
		community_id: string &log &optional;
		## Outer VLAN id.
		vlan: int &log &optional;
		## Mean IP length of the originator's packets, bytes, over the packets that packets.zeek looked at; so all below, which are
		## unset where `packet_statistics` is off.
		orig_size_mean: double &log &optional;
		## Sample standard deviation of the same, bytes; needs two packets.
		orig_size_std: double &log &optional;
		## Mean IP length of the responder's packets, bytes.
		resp_size_mean: double &log &optional;
		## Sample standard deviation of the same, bytes.
		resp_size_std: double &log &optional;
		## Mean gap between the originator's packets, seconds; needs two packets.
		orig_iat_mean: double &log &optional;
		## Sample standard deviation of the same, seconds; needs three packets.
		orig_iat_std: double &log &optional;
		## Mean gap between the responder's packets, seconds.
		resp_iat_mean: double &log &optional;
		## Sample standard deviation of the same, seconds.
		resp_iat_std: double &log &optional;
		## TCP packets with SYN, both directions.
		syn: count &log &optional;
		## TCP packets with ACK, both directions.
		ack: count &log &optional;
		## TCP packets with FIN, both directions.
		fin: count &log &optional;
		## TCP packets with RST, both directions.
		rst: count &log &optional;
		## TCP packets with PSH, both directions.
		psh: count &log &optional;
		## TCP packets with URG, both directions.
		urg: count &log &optional;
		## Log-ins tried, as far as one of Zeek's analyzers sees them; so all below, which are unset where `protocol_counts` is off
		## and until the first of their kind.
		login_attempts: count &log &optional;
		## Log-ins refused; also unset where answers cannot be seen.
		login_failures: count &log &optional;
		## HTTP requests begun.
		requests: count &log &optional;
		## HTTP requests begun, but not sent to their end.
		requests_unfinished: count &log &optional;
		## Most HTTP requests with one method and path.
		requests_alike: count &log &optional;
		## DNS queries.
		dns_queries: count &log &optional;
		## Distinct names in them; above a few an estimate, by some percent.
		dns_names: count &log &optional;
	};

	## Break in this hook to keep a row out of the log.
	global log_policy_flow: Log::PolicyHook;

	## Raised for each row that goes to the log.
	##
	## rec: the row.
	global log_flow: event(rec: FlowInfo);
}

# conn.log's words for the state of a connection that has not ended, by the states of originator and responder. Anything else
# is OTH. conn.log itself knows the state only at the end.
const tcp_words: table[count, count] of string = {
	[TCP_SYN_SENT, TCP_INACTIVE] = "S0",
	[TCP_ESTABLISHED, TCP_ESTABLISHED] = "S1",
	[TCP_CLOSED, TCP_ESTABLISHED] = "S2",
	[TCP_ESTABLISHED, TCP_CLOSED] = "S3",
	[TCP_CLOSED, TCP_CLOSED] = "SF",
	[TCP_SYN_SENT, TCP_RESET] = "REJ",
	[TCP_RESET, TCP_ESTABLISHED] = "RSTO",
	[TCP_ESTABLISHED, TCP_RESET] = "RSTR",
	[TCP_CLOSED, TCP_INACTIVE] = "SH",
	[TCP_INACTIVE, TCP_CLOSED] = "SHR",
} &default="OTH";

const udp_words: table[count, count] of string = {
	[UDP_ACTIVE, UDP_ACTIVE] = "SF",
	[UDP_ACTIVE, UDP_INACTIVE] = "S0",
	[UDP_INACTIVE, UDP_ACTIVE] = "SHR",
} &default="OTH";

function state_so_far(c: connection, proto: transport_proto): string
	{
	if ( proto == tcp )
		return tcp_words[c$orig$state, c$resp$state];
	if ( proto == udp )
		return udp_words[c$orig$state, c$resp$state];
	return "OTH";
	}

## Sample standard deviation from running sums.
##
## n: how many values.
##
## sum: their sum.
##
## squares: the sum of their squares.
function deviation(n: count, sum: double, squares: double): double
	{
	local variance = ( squares - sum * sum / n ) / ( n - 1 );
	# Rounding may leave a tiny negative where all values are equal.
	return variance > 0.0 ? sqrt(variance) : 0.0;
	}

function add_statistics(r: FlowInfo, c: connection)
	{
	local s = c$packetclip;
	local same = s$a_p == c$id$orig_p && s$a_h == c$id$orig_h;
	local span: double;

	if ( same ? s?$a : s?$b )
		{
		local o = same ? s$a : s$b;
		r$orig_size_mean = ( o$bytes + 0.0 ) / o$n;
		if ( o$n > 1 )
			{
			span = ( o$last - o$first ) / 1sec;
			r$orig_size_std = deviation(o$n, o$bytes, o$squares);
			r$orig_iat_mean = span / ( o$n - 1 );
			if ( o$n > 2 )
				r$orig_iat_std = deviation(o$n - 1, span, o$gap_squares);
			}
		}

	if ( same ? s?$b : s?$a )
		{
		local p = same ? s$b : s$a;
		r$resp_size_mean = ( p$bytes + 0.0 ) / p$n;
		if ( p$n > 1 )
			{
			span = ( p$last - p$first ) / 1sec;
			r$resp_size_std = deviation(p$n, p$bytes, p$squares);
			r$resp_iat_mean = span / ( p$n - 1 );
			if ( p$n > 2 )
				r$resp_iat_std = deviation(p$n - 1, span, p$gap_squares);
			}
		}

	if ( s$proto == tcp && ( s?$a || s?$b ) )
		{
		r$syn = s$syn;
		r$ack = s$ack + s$only_ack + s$only_psh_ack;
		r$fin = s$fin;
		r$rst = s$rst;
		r$psh = s$psh + s$only_psh_ack;
		r$urg = s$urg;
		}
	}

function add_counts(r: FlowInfo, s: Counts)
	{
	if ( s?$attempts )
		r$login_attempts = s$attempts;
	if ( s?$failures )
		r$login_failures = s$failures;
	if ( s?$requests )
		{
		r$requests = s$requests;
		r$requests_unfinished = s$requests > s$finished ? s$requests - s$finished : 0;
		r$requests_alike = s$alike;
		}
	if ( s?$queries )
		{
		r$dns_queries = s$queries;
		r$dns_names = s?$names ? double_to_count(hll_cardinality_estimate(s$names)) : 1;
		}
	}

## Protocol number of a connection. Zeek 7.0 has only the three with a name; later versions keep the number in the id.
function protocol_number(id: conn_id, proto: transport_proto): count
	{
	switch ( proto )
		{
		case tcp:
			return 6;
		case udp:
			return 17;
		case icmp:
			return is_v4_addr(id$orig_h) ? 1 : 58;
		}
@if ( Version::at_least("7.1.0") )
	return id$proto;
@else
	return 65535;
@endif
	}

function write_flow(c: connection, final: bool)
	{
	local info = c$conn;
	local r = FlowInfo($ts=c$start_time, $uid=c$uid, $id=c$id, $proto=info$proto,
	    $final=final, $missed_bytes=info$missed_bytes);

	if ( final )
		{
		if ( info?$service )
			r$service = info$service;
		if ( info?$conn_state )
			r$conn_state = info$conn_state;
		}
	else
		{
		if ( |c$service| > 0 )
			r$service = to_lower(join_string_set(c$service, ","));
		r$conn_state = state_so_far(c, info$proto);
		}

	if ( c$duration > 0sec )
		{
		r$duration = c$duration;
		r$orig_bytes = c$orig$size;
		r$resp_bytes = c$resp$size;
		}
	if ( c$orig?$num_pkts )
		{
		r$orig_pkts = c$orig$num_pkts;
		r$orig_ip_bytes = c$orig$num_bytes_ip;
		r$resp_pkts = c$resp$num_pkts;
		r$resp_ip_bytes = c$resp$num_bytes_ip;
		}
	if ( info?$local_orig )
		r$local_orig = info$local_orig;
	if ( info?$local_resp )
		r$local_resp = info$local_resp;
	if ( c$history != "" )
		r$history = c$history;
	if ( c?$vlan )
		r$vlan = c$vlan;

	local number = protocol_number(c$id, info$proto);
	if ( number != 65535 )
		{
		r$ip_proto = number;
		r$community_id = community_id_v1(c$id);
		}

	if ( c?$packetclip )
		add_statistics(r, c);
	if ( c?$packetclip_counts )
		add_counts(r, c$packetclip_counts);

	Log::write(FLOW_LOG, r);
	}

function interim_reached(c: connection)
	{
	c$packetclip_interim = T;
	# The record at hand was filled before the packet in hand was counted; the lookup fills it anew.
	if ( connection_exists(c$id) )
		write_flow(lookup_connection(c$id), F);
	}

function counts_reached(c: connection)
	{
	if ( interim_on && connection_exists(c$id) )
		write_flow(lookup_connection(c$id), F);
	}

# Zeek's packet thresholds count one direction, so each step halves what is missing in both together, until it is exact.
function watch_packets(c: connection)
	{
	if ( interim_packets == 0 || ! c$orig?$num_pkts )
		return;

	local seen = c$orig$num_pkts + c$resp$num_pkts;
	local step = seen < interim_packets ? ( interim_packets - seen + 1 ) / 2 : 1;
	ConnThreshold::set_packets_threshold(c, c$orig$num_pkts + step, T);
	ConnThreshold::set_packets_threshold(c, c$resp$num_pkts + step, F);
	}

function interim_watch(c: connection)
	{
	c$packetclip_interim = F;
	if ( interim_age > 0sec )
		ConnThreshold::set_duration_threshold(c, interim_age);
	watch_packets(c);
	}

event zeek_init() &priority=4
	{
	create_json_stream(FLOW_LOG, Log::Stream($columns=FlowInfo, $ev=log_flow,
	    $path="packetclip_flow", $policy=log_policy_flow));
	}

event PacketCLIP::options_changed()
	{
	if ( log_flows )
		enable_event_group("packetclip-flows");
	else
		disable_event_group("packetclip-flows");

	# While packets are looked at, their handler notices the thresholds at no extra cost.
	if ( interim_on && ! packets_on )
		enable_event_group("packetclip-watch");
	else
		disable_event_group("packetclip-watch");
	}

event new_connection(c: connection) &group="packetclip-watch"
	{
	interim_watch(c);
	}

event ConnThreshold::packets_threshold_crossed(c: connection, threshold: count,
    is_orig: bool) &group="packetclip-flows"
	{
	if ( ! c?$packetclip_interim || c$packetclip_interim )
		return;

	if ( c$orig$num_pkts + c$resp$num_pkts >= interim_packets )
		{
		c$packetclip_interim = T;
		write_flow(c, F);
		}
	else
		watch_packets(c);
	}

event ConnThreshold::duration_threshold_crossed(c: connection,
    threshold: interval, is_orig: bool) &group="packetclip-flows"
	{
	if ( ! c?$packetclip_interim
	    || c$packetclip_interim
	    || c$duration < interim_age )
		return;

	c$packetclip_interim = T;
	write_flow(c, F);
	}

# After conn/main.zeek has filled in what it knows of the end.
event connection_state_remove(c: connection) &priority=-5
    &group="packetclip-flows"
	{
	if ( packets_on
	    && c$orig?$num_pkts
	    && c$orig$num_pkts + c$resp$num_pkts < flow_min_packets )
		return;
	write_flow(c, T);
	}
