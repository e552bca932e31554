# @TEST-DOC: The Linux cooked link type.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/cooked.pcap $PACKAGE
# @TEST-EXEC: btest-diff packetclip_packet.log
# @TEST-EXEC: btest-diff packetclip_flow.log
