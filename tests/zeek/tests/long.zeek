# @TEST-DOC: 150 packets of one connection: 100 are logged, with an interim row at the 100th and a final row at the end.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: test $(wc -l < packetclip_packet.log) = 100
# @TEST-EXEC: btest-diff packetclip_flow.log
