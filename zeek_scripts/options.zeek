##! What the PacketCLIP logs hold. Every option can be set in local.zeek with ``redef`` and changed at run time through the
##! configuration framework; a change counts from the next packet on, also for connections that are already open.

module PacketCLIP;

export {
	## Write packetclip_packet.log. Switched off, packets cost nothing, and the flow log's size, gap and flag columns stay
	## unset, for they are measured on the logged packets.
	option log_packets: bool = T;

	## Write packetclip_flow.log.
	option log_flows: bool = T;

	## Packets recorded per connection, both directions together; twice as many where each packet of the link comes twice. Beyond
	## them four an octave are recorded (112, 128, 160, 192, 224, 256 ...), with the connection's bytes so far.
	option max_packets: count = 100;

	## Bytes recorded per packet, from the IP header on.
	option max_bytes: count = 128;

	## Connections to one host that are logged of those that begin in a second; 0 for no limit. Windows hold the last packets
	## of each second, so a flood or a scan needs no more. Above it a fifth as many are logged of sources that came to the host in
	## the last 10 to 20 sec, as a flood's forged sources do not, and a fifth more of those that completed a handshake; a single
	## source gets a quarter of that. What is left out is counted in the next connection's `skipped` and in
	## PacketCLIP::connections_skipped.
	option max_new_connections: count = 500;

	## Measure each logged packet for the flow log's columns of sizes, gaps and TCP flags. Off, they stay unset; it costs Zeek
	## half as much again as the packet log.
	option packet_statistics: bool = F;

	## Count what Zeek's analyzers see, for the flow log's columns of log-ins, HTTP requests and DNS queries. Off, they stay unset.
	option protocol_counts: bool = T;

	## Connections of fewer packets than this get no row in packetclip_flow.log while the packet log is written: there is
	## nothing in such a row that the packets do not say. 0 for a row for each.
	option flow_min_packets: count = 4;

	## Write one interim row to packetclip_flow.log for a connection that passes one of the two thresholds below, and one each time
	## that its log-ins, those refused, or its requests with one method and path reach 3, 10, 30, 100 ...
	option interim_rows: bool = T;

	## Packets, both directions together, at which a connection gets its interim row; 0 for no such threshold.
	option interim_packets: count = 100;

	## Age (as an interval) at which a connection gets its interim row, with its next packet; 0 sec for no such threshold.
	option interim_age: interval = 60sec;

	## Raised at start and after each change of an option; switches the event groups of the handlers that are not needed.
	global options_changed: event();

	## The log filters' own writer settings: JSON with epoch seconds, whatever the site's other logs look like.
	const writer_config: table[string] of string = {
		["use_json"] = "T",
		["json_timestamps"] = "JSON::TS_EPOCH",
		["json_include_unset_fields"] = "F",
	} &redef;
}

## Create a log stream whose only filter writes JSON lines under Zeek's own field names.
##
## id: the stream.
##
## stream: columns, path and policy hook.
global create_json_stream: function(id: Log::ID, stream: Log::Stream);

function create_json_stream(id: Log::ID, stream: Log::Stream)
	{
	# Zeek 8.1 cuts long strings; base64 must never be cut. Zero means no limit.
@ifdef ( Log::default_max_field_string_bytes )
	stream$max_field_string_bytes = 0;
	stream$max_total_string_bytes = 0;
@endif
	Log::create_stream(id, stream);
	Log::remove_default_filter(id);
	# An empty name map and "." as separator, since a site may have redefined the defaults for its own logs.
	Log::add_filter(id, Log::Filter($name="packetclip-json", $path=stream$path,
	    $writer=Log::WRITER_ASCII, $scope_sep=".", $field_name_map=table(),
	    $config=writer_config));
	}

function option_changed(id: string, new_value: any): any
	{
	# The option still has its old value here; the event is handled when it has the new one.
	event PacketCLIP::options_changed();
	return new_value;
	}

event zeek_init() &priority=5
	{
	for ( name in set("log_packets", "log_flows", "max_packets", "max_bytes",
	    "max_new_connections", "packet_statistics", "protocol_counts",
	    "flow_min_packets", "interim_rows", "interim_packets",
	    "interim_age") )
		Option::set_change_handler("PacketCLIP::" + name, option_changed, -10);
	}

# After every other zeek_init handler, for those may set options too.
event zeek_init() &priority=-100
	{
	event PacketCLIP::options_changed();
	}
