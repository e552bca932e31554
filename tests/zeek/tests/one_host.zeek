# @TEST-DOC: A connection of a host with itself, on the loopback link type: direction by ports.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/one_host.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
