# @TEST-DOC: Of the connections to one host that begin in a second only so many are logged, and the rest is counted in the next.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/new_connections.pcap $PACKAGE PacketCLIP::max_new_connections=3
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: grep -o 'PacketCLIP: .*logged' reporter.log > said
# @TEST-EXEC: btest-diff said
# @TEST-EXEC: test ! -e packetclip_flow.log
