# @TEST-DOC: A packet that comes late has its own time, not that of the packet before it.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/out_of_order.pcap $PACKAGE
# @TEST-EXEC: btest-diff packetclip_packet.log
