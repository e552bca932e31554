# @TEST-DOC: One VLAN tag, two tags, MPLS and PPPoE.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/vlan.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
