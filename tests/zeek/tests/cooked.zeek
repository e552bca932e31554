# @TEST-DOC: The Linux cooked link type.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/cooked.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
