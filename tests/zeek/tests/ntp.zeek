# @TEST-DOC: Zeek changes the sides behind the first packet where a time server's answer comes first; is_orig is right from that one on.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/ntp.pcap $PACKAGE
# @TEST-EXEC: btest-diff packetclip_packet.log
