# @TEST-DOC: The raw link type.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/raw.pcap $PACKAGE
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
