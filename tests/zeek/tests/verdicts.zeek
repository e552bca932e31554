# @TEST-DOC: Verdicts become notices once each: three missions and one of another model, an episode that grew more severe, hostile text
# @TEST-DOC: inert, columns unset.
# @TEST-DOC: Bad lines, old lines and lines that a hook refuses do not; bad ones are reported, and policy hooks see the new fields.
# @TEST-EXEC: mktemp -d > folder
# @TEST-EXEC: zeek -D $PACKAGE/verdicts.zeek %INPUT PacketCLIP::verdicts_path=$VERDICTS/mixed.tsv PacketCLIP::raised_path=$(cat folder)/my/raised.tsv > out 2> err
# @TEST-EXEC: columns ts note msg sub src dst p proto n uid suppress_for actions packetclip_probability packetclip_severity packetclip_episode < notice.log > notices
# @TEST-EXEC: columns level message < reporter.log | sed 's|/[^ ]*/||g' | grep PacketCLIP: > reports
# @TEST-EXEC: grep -q 'Not enough fields in line' reporter.log && grep -q 'Bad address: 10.0.0.256' reporter.log
# @TEST-EXEC: cut -f 1 "$(cat folder)/my/raised.tsv" > raised && rm -r "$(cat folder)"
# @TEST-EXEC: btest-diff out
# @TEST-EXEC: btest-diff notices
# @TEST-EXEC: btest-diff reports
# @TEST-EXEC: btest-diff raised
# @TEST-EXEC: grep -v User-Agent mail > sent
# @TEST-EXEC: btest-diff sent

redef exit_only_after_terminate = T;
redef PacketCLIP::verdicts_max_age = 10000days;
redef PacketCLIP::verdicts_suppress_for = 2hrs;
# A program of ours, which appends what it is given to the file "mail".
redef Notice::sendmail = "mail-to-file";
redef Notice::mail_dest = "soc@example.org";
redef Notice::emailed_types += {PacketCLIP::Brute_Force};

hook PacketCLIP::verdict(v: PacketCLIP::Verdict)
	{
	if ( v$sub == "Ask the verdict hook." )
		break;
	}

hook Notice::policy(n: Notice::Info)
	{
	if ( n?$packetclip_severity && n$packetclip_severity >= 99 )
		add n$actions[Notice::ACTION_ALARM];
	if ( n?$packetclip_episode )
		print n$note, n$identifier, n$packetclip_probability;
	}

# Of a later priority, so that the framework's own hooks have set the action by then.
hook Notice::policy(n: Notice::Info) &priority=-10
	{
	if ( n$sub == "Ask the policy." )
		n$actions = set();
	}

event Notice::log_notice(n: Notice::Info)
	{
	if ( ! n?$packetclip_episode || n$packetclip_episode != "last" )
		return;
	local again = Notice::Info($note=PacketCLIP::Brute_Force, $identifier="e3");
	local other = Notice::Info($note=PacketCLIP::Brute_Force, $identifier="e4");
	print "suppressed", Notice::is_being_suppressed(again),
	    Notice::is_being_suppressed(other);
	terminate();
	}

event zeek_done()
	{
	print fmt("%d lines skipped", PacketCLIP::verdicts_skipped);
	}
