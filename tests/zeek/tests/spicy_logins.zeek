# @TEST-DOC: What is counted of LDAP, PostgreSQL and Redis, by events that this script raises: their analyzers are in Zeeks built with
# @TEST-DOC: Spicy alone. A Zeek without it gets what the handlers need of their scripts.
# @TEST-EXEC: zeek $ZEEK_PCAP_ARGS -r $PCAPS/raw.pcap %INPUT $PACKAGE PacketCLIP::flow_min_packets=0
# @TEST-EXEC: grep -o '"community_id".*' packetclip_flow.log > out
# @TEST-EXEC: btest-diff out

@if ( ! have_spicy_analyzers() )
module LDAP;

export {
	type ProtocolOpcode: enum {
		ProtocolOpcode_BIND_RESPONSE
	};
	type ResultCode: enum {
		ResultCode_SUCCESS,
		ResultCode_INVALID_CREDENTIALS
	};
	type BindAuthType: enum {
		BindAuthType_BIND_AUTH_SIMPLE
	};
	global bind_request: event(c: connection, message_id: int, version: int,
	    name: string, authType: BindAuthType, authInfo: string);
	global message: event(c: connection, message_id: int, opcode: ProtocolOpcode,
	    result: ResultCode, matched_dn: string, diagnostic_message: string,
	    object: string, argument: string);
}

module PostgreSQL;

export {
	global authentication_request: event(c: connection, identifier: count,
	    data: string);
	global error_response_identified_field: event(c: connection, code: string,
	    value: string);
}

module Redis;

export {
	type AuthCommand: record {
		username: string &optional;
		password: string;
	};
	type ReplyData: record {
		value: string;
		min_protocol_version: count;
	};
	global auth_command: event(c: connection, command: AuthCommand);
	global error: event(c: connection, data: ReplyData);
}
@endif

module GLOBAL;

function ldap(c: connection, name: string, result: LDAP::ResultCode)
	{
	event LDAP::bind_request(c, 1, 3, name, LDAP::BindAuthType_BIND_AUTH_SIMPLE,
	    "p");
	event LDAP::message(c, 1, LDAP::ProtocolOpcode_BIND_RESPONSE, result, "", "", "",
	    "");
	}

# Six log-ins, four of them refused: the other steps, errors, anonymous and good ones do not count.
event new_connection(c: connection)
	{
	ldap(c, "", LDAP::ResultCode_SUCCESS);
	ldap(c, "cn=a", LDAP::ResultCode_INVALID_CREDENTIALS);
	ldap(c, "cn=a", LDAP::ResultCode_SUCCESS);
	event PostgreSQL::authentication_request(c, 10, "");
	event PostgreSQL::authentication_request(c, 11, "");
	event PostgreSQL::error_response_identified_field(c, "C", "28P01");
	event PostgreSQL::authentication_request(c, 5, "");
	event PostgreSQL::error_response_identified_field(c, "S", "28P01");
	for ( i, answer in vector("WRONGPASS invalid", "ERR invalid password",
	    "ERR unknown command") )
		{
		if ( i < 2 )
			event Redis::auth_command(c, Redis::AuthCommand($password="p"));
		event Redis::error(c, Redis::ReplyData($value=answer,
		    $min_protocol_version=2));
		}
	}
