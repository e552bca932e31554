# @TEST-DOC: Zeek swaps the roles of a connection seen from its SYN-ACK on; the flow's columns follow.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/flipped.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
