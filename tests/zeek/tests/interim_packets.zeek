# @TEST-DOC: The interim row comes with the same packet whether the packet handler counts (1), Zeek's thresholds do because the
# @TEST-DOC: packet log is off (2), or they take over where the packet limit ends (3).
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_packets=70 PacketCLIP::interim_age=0sec && mv packetclip_flow.log 1.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_packets=70 PacketCLIP::interim_age=0sec PacketCLIP::log_packets=F && mv packetclip_flow.log 2.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_packets=70 PacketCLIP::interim_age=0sec PacketCLIP::max_packets=9 && mv packetclip_flow.log 3.log
# @TEST-EXEC: for i in 1 2 3; do grep '"final":false' $i.log | grep -o '"[a-z]*_pkts":[0-9]*'; done > out
# @TEST-EXEC: btest-diff out
