##! What Zeek's own analyzers know of a connection, counted for packetclip_flow.log: log-ins and refused ones, requests, and names
##! asked for. Nothing here runs per packet; most handlers run per log-in, those of HTTP and DNS per request. What is kept of a
##! connection has a fixed bound, whatever its peers send.

@load base/bif/cardinality-counter.bif.zeek
@load base/protocols/conn
@load base/protocols/conn/removal-hooks
@load ./options
@load ./packets

module PacketCLIP;

export {
	## What is counted of a connection. A count is unset until the analyzer has seen the first of its kind.
	type Counts: record {
		## Log-ins tried.
		attempts: count &optional;
		## Log-ins refused; unset where the answer cannot be seen.
		failures: count &optional;
		## HTTP requests begun.
		requests: count &optional;
		## HTTP requests that were sent to their end.
		finished: count &default=0;
		## Most requests with one method and path.
		alike: count &default=0;
		## Requests by method and path, of at most `most_kinds`.
		kinds: table[string] of count &optional;
		## DNS queries.
		queries: count &optional;
		## The first name asked for.
		name: string &optional;
		## Names asked for, from the second on: a kilobyte, however many.
		names: opaque of cardinality &optional;
		## Whether the last FTP command was of a log-in.
		ftp_login: bool &default=F;
		## Payload of both sides when an SSH server had given its key.
		ssh_orig: count &optional;
		ssh_resp: count &optional;
		## Failures at which the next interim row is due, and attempts or requests alike.
		due_failures: count &default=3;
		due_tries: count &default=3;
	};

	redef record connection += {
		packetclip_counts: Counts &optional;
	};

	## Called when the counts of a connection reach 3, 10, 30, 100 ...; flows.zeek writes a row.
	global counts_reached: function(c: connection);

	global ssh_ended: Conn::RemovalHook;
}

# Kinds of requests that are counted at a time, and characters of each.
const most_kinds = 16;
const kind_length = 100;

function counts_of(c: connection): Counts
	{
	if ( ! c?$packetclip_counts )
		c$packetclip_counts = Counts();
	return c$packetclip_counts;
	}

## The count after 3, 10, 30, 100 ...
function after(due: count): count
	{
	return due % 3 == 0 ? due / 3 * 10 : due * 3;
	}

## Have a row written where more was refused than the last time, or more tried of which no answer can be seen.
function look_at_counts(c: connection, s: Counts)
	{
	local tries = s$alike;
	if ( s?$attempts && ! s?$failures && s$attempts > tries )
		tries = s$attempts;
	local failures = s?$failures ? s$failures : 0;
	if ( tries < s$due_tries && failures < s$due_failures )
		return;
	if ( tries >= s$due_tries )
		s$due_tries = after(s$due_tries);
	if ( failures >= s$due_failures )
		s$due_failures = after(s$due_failures);
	counts_reached(c);
	}

## Count a log-in.
##
## answered: whether a refusal could be seen.
function tried(c: connection, answered: bool)
	{
	local s = counts_of(c);
	s$attempts = s?$attempts ? s$attempts + 1 : 1;
	if ( answered && ! s?$failures )
		s$failures = 0;
	look_at_counts(c, s);
	}

## Count a refused log-in. Where its attempt was not seen, as in the middle of a connection, it counts as one as well.
function refused(c: connection)
	{
	local s = counts_of(c);
	s$failures = s?$failures ? s$failures + 1 : 1;
	if ( ! s?$attempts || s$attempts < s$failures )
		s$attempts = s$failures;
	look_at_counts(c, s);
	}

## Count a log-in whose answer alone is told.
function answered(c: connection, well: bool)
	{
	if ( well )
		tried(c, T);
	else
		refused(c);
	}

event PacketCLIP::options_changed()
	{
	if ( log_flows && protocol_counts )
		enable_event_group("packetclip-protocols");
	else
		disable_event_group("packetclip-protocols");
	}

# --- FTP, SMTP, POP3, Telnet ---

event ftp_request(c: connection, command: string, arg: string)
    &group="packetclip-protocols"
	{
	local s = counts_of(c);
	s$ftp_login = command == "USER" || command == "PASS";
	if ( command == "PASS" )
		tried(c, T);
	}

event ftp_reply(c: connection, code: count, msg: string, cont_resp: bool)
    &group="packetclip-protocols"
	{
	# Servers answer 530 to any command before the log-in too.
	if ( code == 530 && ! cont_resp && counts_of(c)$ftp_login )
		refused(c);
	}

event smtp_request(c: connection, is_orig: bool, command: string, arg: string)
    &group="packetclip-protocols"
	{
	if ( command == "AUTH" )
		tried(c, T);
	}

event smtp_reply(c: connection, is_orig: bool, code: count, cmd: string,
    msg: string, cont_resp: bool) &group="packetclip-protocols"
	{
	if ( code == 535 && ! cont_resp )
		refused(c);
	}

event pop3_login_success(c: connection, is_orig: bool, user: string,
    password: string) &group="packetclip-protocols"
	{
	tried(c, T);
	}

event pop3_login_failure(c: connection, is_orig: bool, user: string,
    password: string) &group="packetclip-protocols"
	{
	refused(c);
	}

# Zeek looks for Telnet and rlogin only where a site registers their analyzers.
event login_success(c: connection, user: string, client_user: string,
    password: string, line: string) &group="packetclip-protocols"
	{
	tried(c, T);
	}

event login_failure(c: connection, user: string, client_user: string,
    password: string, line: string) &group="packetclip-protocols"
	{
	refused(c);
	}

# --- SSH, RDP, VNC ---

# Zeek tells refused attempts from the sizes of encrypted packets. The first answer of a server it takes for that to the method
# "none", which OpenSSH's client asks for first, so that one is not counted.
event ssh_auth_attempted(c: connection, authenticated: bool)
    &group="packetclip-protocols"
	{
	answered(c, authenticated);
	}

# So of a connection with a single refused attempt, as many guessers make, Zeek says nothing. Its sizes tell: behind the key exchange
# the client has asked for a service and sent an attempt, the server has answered both, and no session followed.
hook ssh_ended(c: connection)
	{
	local s = counts_of(c);
	if ( s?$attempts
	    || c$orig$size < s$ssh_orig + 100
	    || c$orig$size > s$ssh_orig + 2000
	    || c$resp$size < s$ssh_resp + 100
	    || c$resp$size > s$ssh_resp + 1000 )
		return;
	s$attempts = s$failures = 1;
	}

event ssh_server_host_key(c: connection, hash: string)
    &group="packetclip-protocols"
	{
	if ( ! connection_exists(c$id) )
		return;
	# Refreshes the sizes in the record at hand.
	lookup_connection(c$id);
	local s = counts_of(c);
	s$ssh_orig = c$orig$size;
	s$ssh_resp = c$resp$size;
	Conn::register_removal_hook(c, ssh_ended);
	}

# One log-in for each connection; the answer is encrypted.
event rdp_connect_request(c: connection, cookie: string, flags: count)
    &group="packetclip-protocols"
	{
	tried(c, F);
	}

# Zeek before 8.1 hands on the protocol's own word, which is 0 for success.
@ifdef ( rfb_authentication_result )
event rfb_authentication_result(c: connection, result: bool)
    &group="packetclip-protocols"
	{
	answered(c, result);
	}
@else
event rfb_auth_result(c: connection, result: bool) &group="packetclip-protocols"
	{
	answered(c, ! result);
	}
@endif

# --- MySQL, PostgreSQL, Redis, LDAP, MQTT ---

event mysql_handshake(c: connection, username: string)
    &group="packetclip-protocols"
	{
	tried(c, T);
	}

event mysql_error(c: connection, code: count, msg: string)
    &group="packetclip-protocols"
	{
	if ( code == 1045 )
		refused(c);
	}

# Not in Zeek 7.0.
@ifdef ( PostgreSQL::authentication_request )
event PostgreSQL::authentication_request(c: connection, identifier: count,
    data: string) &group="packetclip-protocols"
	{
	# Not the further steps of GSSAPI (8) and SASL (11, 12).
	if ( identifier < 8 || identifier in set(9, 10) )
		tried(c, T);
	}

event PostgreSQL::error_response_identified_field(c: connection, code: string,
    value: string) &group="packetclip-protocols"
	{
	# SQLSTATE: invalid password, invalid authorization.
	if ( code == "C" && value in set("28P01", "28000") )
		refused(c);
	}
@endif

# Not in Zeek 7.
@ifdef ( Redis::auth_command )
event Redis::auth_command(c: connection, command: Redis::AuthCommand)
    &group="packetclip-protocols"
	{
	tried(c, T);
	}

event Redis::error(c: connection, data: Redis::ReplyData)
    &group="packetclip-protocols"
	{
	if ( /^(WRONGPASS|ERR invalid password)/ in data$value )
		refused(c);
	}
@endif

# Where Zeek was built without Spicy there is no LDAP.
@ifdef ( LDAP::bind_request )
event LDAP::bind_request(c: connection, message_id: int, version: int,
    name: string, authType: LDAP::BindAuthType, authInfo: string)
    &group="packetclip-protocols"
	{
	# An anonymous bind has no name.
	if ( name != "" )
		tried(c, T);
	}

event LDAP::message(c: connection, message_id: int,
    opcode: LDAP::ProtocolOpcode, result: LDAP::ResultCode, matched_dn: string,
    diagnostic_message: string, object: string, argument: string)
    &group="packetclip-protocols"
	{
	if ( opcode == LDAP::ProtocolOpcode_BIND_RESPONSE
	    && result == LDAP::ResultCode_INVALID_CREDENTIALS )
		refused(c);
	}
@endif

event mqtt_connect(c: connection, msg: MQTT::ConnectMsg)
    &group="packetclip-protocols"
	{
	if ( msg?$username )
		tried(c, T);
	}

event mqtt_connack(c: connection, msg: MQTT::ConnectAckMsg)
    &group="packetclip-protocols"
	{
	# Bad user name or password, not authorized; the latter two of MQTT 5.
	if ( msg$return_code in set(4, 5, 0x86, 0x87) )
		refused(c);
	}

# --- Kerberos, NTLM, SMB ---

event krb_as_response(c: connection, msg: KRB::KDC_Response)
    &group="packetclip-protocols"
	{
	tried(c, T);
	}

event krb_error(c: connection, msg: KRB::Error_Msg)
    &group="packetclip-protocols"
	{
	# No such client, client revoked, pre-authentication failed. That it is needed (25) refuses nothing.
	if ( msg$error_code in set(6, 18, 24) )
		refused(c);
	}

event ntlm_authenticate(c: connection, request: NTLM::Authenticate)
    &group="packetclip-protocols"
	{
	# SMB says by itself how it ended; RPC does not.
	if ( "SMB" !in c$service )
		tried(c, F);
	}

# Status of an answer that is neither success nor the next step of the same log-in.
function smb_session(c: connection, status: count)
	{
	if ( status == 0 )
		tried(c, T);
	else if ( status != 0xC0000016 )
		refused(c);
	}

event smb1_message(c: connection, hdr: SMB1::Header, is_orig: bool)
    &group="packetclip-protocols"
	{
	if ( ! is_orig && hdr$command == 0x73 )
		smb_session(c, hdr$status);
	}

event smb2_message(c: connection, hdr: SMB2::Header, is_orig: bool)
    &group="packetclip-protocols"
	{
	if ( ! is_orig && hdr$command == 1 )
		smb_session(c, hdr$status);
	}

# --- HTTP ---

@ifdef ( HTTP::Info )
redef record HTTP::Info += {
	## Whether the request brought credentials.
	packetclip_login: bool &default=F;
};

## Count requests with one method and path. What comes when `most_kinds` are counted begins a new count, so the maximum stays.
function count_kind(s: Counts, method: string, uri: string)
	{
	local path = uri[:kind_length];
	local query = find_str(path, "?");
	local kind = method + " " + ( query < 0 ? path : path[:query] );
	if ( ! s?$kinds )
		s$kinds = table();
	if ( kind in s$kinds )
		++s$kinds[kind];
	else
		{
		if ( |s$kinds| >= most_kinds )
			clear_table(s$kinds);
		s$kinds[kind] = 1;
		}
	if ( s$kinds[kind] > s$alike )
		s$alike = s$kinds[kind];
	}

event http_request(c: connection, method: string, original_URI: string,
    unescaped_URI: string, version: string) &group="packetclip-protocols"
	{
	local s = counts_of(c);
	s$requests = s?$requests ? s$requests + 1 : 1;
	count_kind(s, method, original_URI);
	look_at_counts(c, s);
	}

event http_header(c: connection, is_orig: bool, name: string, value: string)
    &group="packetclip-protocols"
	{
	# The first step of NTLM, and of what Negotiate wraps, brings no credentials and is always refused.
	if ( name == "AUTHORIZATION"
	    && is_orig
	    && c?$http
	    && ! c$http$packetclip_login
	    && /^(NTLM|Negotiate) +(TlRMTVNTUAAB|Y)/ !in value )
		{
		c$http$packetclip_login = T;
		tried(c, T);
		}
	}

event http_reply(c: connection, version: string, code: count, reason: string)
    &group="packetclip-protocols"
	{
	if ( code != 401 && code != 403 )
		return;
	# A form's POST is not known for a log-in until it is refused.
	if ( c$http$packetclip_login )
		refused(c);
	else if ( c$http?$method && c$http$method == "POST" )
		{
		tried(c, T);
		refused(c);
		}
	}

event http_message_done(c: connection, is_orig: bool, stat: http_message_stat)
    &group="packetclip-protocols"
	{
	if ( is_orig && ! stat$interrupted )
		++counts_of(c)$finished;
	}
@endif

# --- DNS ---

event dns_request(c: connection, msg: dns_msg, query: string, qtype: count,
    qclass: count) &group="packetclip-protocols"
	{
	local s = counts_of(c);
	if ( ! s?$queries )
		{
		s$queries = 1;
		s$name = query;
		return;
		}
	++s$queries;
	if ( ! s?$names )
		{
		if ( s$name == query )
			return;
		s$names = hll_cardinality_init(0.1, 0.95);
		hll_cardinality_add(s$names, s$name);
		}
	hll_cardinality_add(s$names, query);
	}
