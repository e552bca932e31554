# @TEST-DOC: The size caps of Zeek 8.1 and later do not cut data; on earlier versions there are none.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/protocols.pcap $PACKAGE %INPUT PacketCLIP::max_bytes=2000
# @TEST-EXEC: grep -o '"len":280,"data":"[^"]*"' packetclip_packet.log > out
# @TEST-EXEC: btest-diff out

@ifdef ( Log::default_max_field_string_bytes )
redef Log::default_max_field_string_bytes = 50;
redef Log::default_max_total_string_bytes = 50;
@endif
