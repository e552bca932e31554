# @TEST-DOC: Frames cut to 60 bytes: len is the packet's own length, data what was captured.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/truncated.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
