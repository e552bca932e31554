# @TEST-DOC: Packets per connection and bytes per packet are limited, and statistics cover the packets logged.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T PacketCLIP::max_packets=3 PacketCLIP::max_bytes=20
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
