# @TEST-DOC: A datagram in fragments is one packet: its whole length, and the bytes of the fragment that completed it.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/fragments.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
