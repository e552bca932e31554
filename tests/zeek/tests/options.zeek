# @TEST-DOC: Options change at run time: bytes at packet 5, packet log off at 10 and on at 20, limit 25, flow log off at the end.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE %INPUT
# @TEST-EXEC: grep -o '"n":.*' packetclip_packet.log > packets
# @TEST-EXEC: btest-diff packets
# @TEST-EXEC: test ! -e packetclip_flow.log

redef PacketCLIP::max_packets = 25;
redef PacketCLIP::interim_rows = F;

global seen = 0;

# An event that is raised per packet but not by the package.
event raw_packet(p: raw_pkt_hdr)
	{
	++seen;
	if ( seen == 5 )
		Config::set_value("PacketCLIP::max_bytes", 24);
	if ( seen == 10 )
		Config::set_value("PacketCLIP::log_packets", F);
	if ( seen == 20 )
		Config::set_value("PacketCLIP::log_packets", T);
	if ( seen == 100 )
		Config::set_value("PacketCLIP::log_flows", F);
	}
