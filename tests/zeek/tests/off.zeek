# @TEST-DOC: With the packet log off Zeek does not raise new_packet on the package's account, and with both off nothing is written.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE %INPUT PacketCLIP::log_packets=F > out
# @TEST-EXEC: test ! -e packetclip_packet.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE %INPUT PacketCLIP::log_packets=T >> out
# @TEST-EXEC: rm packetclip_*.log; zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE PacketCLIP::log_packets=F PacketCLIP::log_flows=F
# @TEST-EXEC: test ! -e packetclip_packet.log -a ! -e packetclip_flow.log
# @TEST-EXEC: btest-diff out

event zeek_done()
	{
	local handled: count = 0;
	local stats = get_event_handler_stats();
	for ( i in stats )
		if ( stats[i]$name == "new_packet" )
			handled = stats[i]$times_called;
	print fmt("new_packet raised %d times", handled);
	}
