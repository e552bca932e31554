# @TEST-DOC: With the packet log off Zeek raises no event per packet on the package's account, with it on one for each of a
# @TEST-DOC: connection's first packets, and new_packet only for a limit above 100. With both logs off nothing is written.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE %INPUT PacketCLIP::log_packets=F > out
# @TEST-EXEC: test ! -e packetclip_packet.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE %INPUT PacketCLIP::log_packets=T >> out
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE %INPUT PacketCLIP::max_packets=200 >> out
# @TEST-EXEC: rm packetclip_*.log; zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE PacketCLIP::log_packets=F PacketCLIP::log_flows=F
# @TEST-EXEC: test ! -e packetclip_packet.log -a ! -e packetclip_flow.log
# @TEST-EXEC: btest-diff out

event zeek_done()
	{
	local handled = table(["new_packet"] = 0, [
	    "conn_generic_packet_threshold_crossed"] = 0);
	local stats = get_event_handler_stats();
	for ( i in stats )
		if ( stats[i]$name in handled )
			handled[stats[i]$name] = stats[i]$times_called;
	print fmt("first packets %d, new_packet %d",
	    handled["conn_generic_packet_threshold_crossed"],
	    handled["new_packet"]);
	}
