# @TEST-DOC: Log-ins, refusals, requests and names as Zeek's analyzers see them, in final rows and in those at 3, 10, 30 ...; none
# @TEST-DOC: with the option off, and no row before the end without interim rows.
# @TEST-EXEC: for c in web_logins other_logins; do zeek $ZEEK_PCAP_ARGS -r $PCAPS/$c.pcap $PACKAGE PacketCLIP::flow_min_packets=0; cat packetclip_flow.log >> rows; done
# @TEST-EXEC: sed -E 's/.*"id.orig_p":([0-9]+).*"final":([a-z]+).*"community_id":"[^"]*"/\1 final \2 /' rows > out
# @TEST-EXEC: btest-diff out
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/web_logins.pcap $PACKAGE PacketCLIP::protocol_counts=F
# @TEST-EXEC: test $(grep -c '"final":true' packetclip_flow.log) = 4
# @TEST-EXEC: ! grep -qE '"final":false|"requests' packetclip_flow.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/web_logins.pcap $PACKAGE PacketCLIP::interim_rows=F
# @TEST-EXEC: ! grep -q '"final":false' packetclip_flow.log
# @TEST-EXEC: grep -q '"requests_alike":12' packetclip_flow.log
