# @TEST-DOC: A site's conn.log is the same TSV with and without the package, and ours is JSON although the site renames fields.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap && mv conn.log before.log
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE && mv conn.log after.log
# @TEST-EXEC: head -1 after.log | grep -q '^#separator'
# @TEST-EXEC: grep -v '^#' before.log > before.rows; grep -v '^#' after.log > after.rows; cmp before.rows after.rows
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/cooked.pcap $PACKAGE %INPUT
# @TEST-EXEC: btest-diff packetclip_packet.log

redef Log::default_scope_sep = "_";
redef Log::default_field_name_map += {["id.orig_h"] = "src"};
redef LogAscii::use_json = T;
redef LogAscii::json_timestamps = JSON::TS_ISO8601;
