# @TEST-DOC: The interim row comes with the first packet at or past the age, by the handler (1), by thresholds (2, 3); none when off (4).
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_packets=0 PacketCLIP::interim_age=20sec && mv packetclip_flow.log 1.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_packets=0 PacketCLIP::interim_age=20sec PacketCLIP::log_packets=F && mv packetclip_flow.log 2.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_packets=0 PacketCLIP::interim_age=20sec PacketCLIP::max_packets=9 && mv packetclip_flow.log 3.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::interim_rows=F && mv packetclip_flow.log 4.log
# @TEST-EXEC: for i in 1 2 3 4; do echo $i; grep '"final":false' $i.log | grep -o '"duration":[0-9.]*'; done > out || true
# @TEST-EXEC: btest-diff out
