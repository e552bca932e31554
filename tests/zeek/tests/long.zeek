# @TEST-DOC: 150 packets of one connection: the first 100 are logged, the 112th and the 128th with the IP bytes so far (each third
# @TEST-DOC: packet has 37, the others 32), with an interim row at the 100th and a final row at the end.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/long.pcap $PACKAGE PacketCLIP::flow_min_packets=0 PacketCLIP::packet_statistics=T
# @TEST-EXEC: test $(wc -l < packetclip_packet.log) = 102
# @TEST-EXEC: grep -o '"n":[0-9]*,"len":[0-9]*\|"bytes":[0-9]*' packetclip_packet.log | tail -n 5 > volume
# @TEST-EXEC: btest-diff volume
# @TEST-EXEC: btest-diff packetclip_flow.log
