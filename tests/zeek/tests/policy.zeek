# @TEST-DOC: Policy hooks keep records out of either log, and rows of the flow log are seen by other scripts.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T %INPUT > out
# @TEST-EXEC: grep -o '"proto":"[a-z]*"' packetclip_packet.log | sort | uniq -c | sed 's/^ *//' >> out
# @TEST-EXEC: grep -o '"proto":"[a-z]*"' packetclip_flow.log | sort | uniq -c | sed 's/^ *//' >> out
# @TEST-EXEC: btest-diff out

hook PacketCLIP::log_policy_packet(rec: PacketCLIP::PacketInfo, id: Log::ID,
    filter: Log::Filter)
	{
	if ( rec$proto != udp )
		break;
	}

hook PacketCLIP::log_policy_flow(rec: PacketCLIP::FlowInfo, id: Log::ID,
    filter: Log::Filter)
	{
	if ( rec$proto == udp )
		break;
	}

event PacketCLIP::log_flow(rec: PacketCLIP::FlowInfo)
	{
	print "flow", rec$proto, rec$id$orig_h;
	}
