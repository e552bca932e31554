# @TEST-DOC: The raw link type.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/raw.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
