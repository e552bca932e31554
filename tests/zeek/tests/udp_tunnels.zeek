# @TEST-DOC: What is in VXLAN, GENEVE, GTP, Teredo and AYIYA is logged once, and their outside is not; port 4789 alone is no tunnel.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/udp_tunnels.pcap $PACKAGE
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/udp_tunnels.pcap $PACKAGE PacketCLIP::max_packets=150
# @TEST-EXEC: btest-diff packetclip_packet.log
