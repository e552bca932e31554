# @TEST-DOC: IP in IP, GRE, VXLAN, 6in4: the inner connection's packets begin at the inner IP header.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/tunnels.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
