##! Notices from the sensor's verdicts: PacketCLIP::DoS, PacketCLIP::Reconnaissance and PacketCLIP::Brute_Force, and for the
##! missions of other models PacketCLIP::Detection. They take the way of all notices, through the site's Notice::policy hooks into
##! notice.log, mail and the rest.
##!
##! Not loaded with the package, since it adds columns to notice.log: a site that wants it says ``@load packetclip/verdicts``.
##! The sensor appends to a file (``zeek_feedback`` in its configuration) and one node, the manager of a cluster, reads it
##! through the Input framework. Nothing here runs per packet.
##!
##! What was raised is remembered in a file of our own, so that a restart of Zeek raises nothing twice. Its folder is Zeek's alone,
##! as the verdicts' folder is the sensor's: whoever else may write in it could let Zeek, which may run as root, write any file.

@load base/frameworks/cluster
@load base/frameworks/input
@load base/frameworks/notice
@load ./own_file

module PacketCLIP;

export {
	redef enum Notice::Type += {
		## Traffic that exhausts a host, a service or a link.
		DoS,
		## Traffic that explores hosts, ports, systems or weaknesses.
		Reconnaissance,
		## Repeated attempts to log in with guessed passwords.
		Brute_Force,
		## Any other mission that the sensor's model knows.
		Detection,
	};

	## Notice type of each mission by its name; a mission that is not named here is a Detection. A site with a mission of its own
	## may give it a type of its own.
	const verdict_notes: table[string] of Notice::Type = {
		["DoS"] = DoS,
		["Reconnaissance"] = Reconnaissance,
		["Brute Force"] = Brute_Force,
	} &default=Detection &redef;

	## The file that the sensor appends its verdicts to; empty for none.
	const verdicts_path = "/var/lib/packetclip/zeek/verdicts.tsv" &redef;

	## The file in which Zeek remembers what it has raised; empty for no memory. Its folder, made where it is missing, and all
	## above it must be of Zeek's user or root, and nobody else may write there; that is looked at, and without it nothing is kept.
	const raised_path = "/var/lib/packetclip-zeek/raised.tsv" &redef;

	## Age (as an interval) from which a verdict is not raised any more, however late it is read.
	option verdicts_max_age: interval = 1day;

	## Time for which further notices of the same identifier are suppressed: of one episode at one severity.
	option verdicts_suppress_for: interval = 1day;

	## Lowest severity that is raised: 21 low, 47 medium, 73 high, 99 critical.
	option verdicts_min_severity: count = 0;

	## Time (as an interval) between two looks at the file's size. A file that shrank is read anew.
	option verdicts_check_interval: interval = 10sec;

	## Size (bytes) above which the file is not read: more than the sensor's zeek_feedback.max_bytes, at which it begins anew.
	option verdicts_max_bytes: count = 67108864;

	## A line of the verdict file.
	type Verdict: record {
		## Time of the window's last packet, epoch seconds.
		ts: time;
		## What is raised once: an episode's id, with its severity behind where that rose later.
		identifier: string &optional;
		## open, update or close; "moved" at the end of a file that has a successor.
		state: string;
		## Name of the mission, as the model has it: DoS, Reconnaissance, Brute Force, ...
		mission: string &optional;
		## Severity: 21, 47, 73 or 99.
		severity: count &optional;
		## Probability of the mission, 0 to 1.
		probability: double &optional;
		## Packets of the episode so far.
		packets: count &optional;
		## The one host that started it, where there is one.
		src: addr &optional;
		## The one host that receives it, where there is one.
		dst: addr &optional;
		## The one port of the receiving side, where there is one.
		p: port &optional;
		## Connection of the packet that weighs most.
		uid: string &optional;
		## Id of the episode, packetclip.episode.id in the documents.
		episode: string &optional;
		## What happened, in a few words.
		msg: string &optional;
		## The reason, a sentence of measured facts.
		sub: string &optional;
		## A full stop; a line without it was cut.
		end: string;
	};

	redef record Notice::Info += {
		## Probability of the mission, 0 to 1, in PacketCLIP's notices.
		packetclip_probability: double &log &optional;
		## Severity in PacketCLIP's notices: 21 low, 47 medium, 73 high, 99 critical.
		packetclip_severity: count &log &optional;
		## Id of the episode in PacketCLIP's notices, packetclip.episode.id in the documents.
		packetclip_episode: string &log &optional;
	};

	## Raised for each verdict before its notice; a break in a handler means no notice.
	##
	## v: the verdict.
	global verdict: hook(v: Verdict);

	## Lines that were skipped: of no known form, too old, or below the lowest severity.
	global verdicts_skipped = 0;
}

type Raised: record {
	identifier: string;
	ts: time;
};

# What an identifier is made of: it also stands in our memory file, as a column.
const known_form = /[-_A-Za-z0-9]{1,100}/;

# Bytes of memory that are read: some 100,000 identifiers.
const most_memory = 16777216.0;

# Malformed lines that are reported one by one; the rest only counts.
const max_reported = 20;

# Identifier to the verdict's time. Bounded by forgetting what is older than verdicts_max_age, since that is not raised again.
global raised: table[string] of time;
global memory: file;
global memory_is_ours = F;
global remembering = F;
global lines_in_memory = 0;
global kept_in_memory = 0;
global started: time;
global readers = 0;
global reading = F;
global reported = 0;
global last_size = -1.0;
global shrunk = F;

function forgetful(why: string)
	{
	Reporter::warning(fmt("PacketCLIP: %s cannot be written, so verdicts from before a start of Zeek are not raised: %s; give raised_path a folder that Zeek's user alone may write",
	    raised_path, why));
	}

# Write what is still young to a new memory file, and leave it open for more.
function rewrite_memory()
	{
	local old: vector of string;
	for ( identifier, ts in raised )
		if ( network_time() - ts > verdicts_max_age )
			old += identifier;
	for ( i in old )
		delete raised[old[i]];

	if ( ! memory_is_ours )
		return;
	local path = raised_path;
	local fresh = open(path + ".new");
	if ( active_file(fresh) )
		{
		set_buf(fresh, F);
		write_file(fresh, "#fields\tidentifier\tts\n");
		for ( identifier, ts in raised )
			write_file(fresh, fmt("%s\t%.6f\n", identifier, ts));
		}
	if ( ! active_file(fresh) || ! rename(path + ".new", path) )
		{
		forgetful("it cannot be opened");
		return;
		}
	if ( remembering )
		close(memory);
	memory = fresh;
	remembering = T;
	lines_in_memory = kept_in_memory = |raised|;
	}

function remember(identifier: string, ts: time)
	{
	raised[identifier] = ts;
	if ( ! remembering )
		return;
	write_file(memory, fmt("%s\t%.6f\n", identifier, ts));
	if ( ++lines_in_memory > 1000 + 2 * kept_in_memory )
		rewrite_memory();
	}

function skip_line(why: string)
	{
	++verdicts_skipped;
	if ( ++reported <= max_reported )
		Reporter::warning(fmt("PacketCLIP: a line of %s is skipped: %s",
		    verdicts_path, why));
	}

# Empty where the line is of the form that the sensor writes.
function fault(v: Verdict): string
	{
	if ( v$end != "." )
		return "it was cut";
	if ( ! v?$identifier
	    || ! v?$episode
	    || ! v?$severity
	    || ! v?$probability
	    || ! v?$msg
	    || ! v?$sub )
		return "a column is unset";
	if ( v$identifier != known_form || v$episode != known_form )
		return "its identifier is of no known form";
	if ( ! v?$mission )
		return "it names no mission";
	# Written so that a number that is none fails as well.
	if ( ! ( v$probability >= 0.0 && v$probability <= 1.0 ) )
		return "its probability is none";
	if ( ! ( v$ts > double_to_time(0.0) && v$ts < double_to_time(1e11) ) )
		return "its time is none";
	# What the reader makes of an address that it cannot read.
	for ( none in set(0.0.0.0, [::]) )
		if ( ( v?$src && v$src == none ) || ( v?$dst && v$dst == none ) )
			return "an address is none";
	return "";
	}

function raise_notice(v: Verdict)
	{
	local n = Notice::Info($note=verdict_notes[v$mission], $ts=v$ts, $msg=v$msg,
	    $sub=v$sub, $identifier=v$identifier,
	    $suppress_for=verdicts_suppress_for,
	    $packetclip_probability=v$probability,
	    $packetclip_severity=v$severity, $packetclip_episode=v$episode,
	    $email_body_sections=vector(fmt(
	    "PacketCLIP: %s, probability %.2f, severity %d, episode %s",
	    v$mission, v$probability, v$severity, v$episode)));
	if ( v?$packets )
		n$n = v$packets;
	if ( v?$src )
		n$src = v$src;
	if ( v?$dst )
		n$dst = v$dst;
	if ( v?$p )
		n$p = v$p;
	if ( v?$uid )
		n$uid = v$uid;
	NOTICE(n);
	}

global open_verdicts: function();

event PacketCLIP::verdict_line(description: Input::EventDescription,
    change: Input::Event, v: Verdict)
	{
	if ( v$state == "moved" && v$end == "." )
		{
		# Lines of a file that we have left may still be under way.
		if ( description$name == fmt("packetclip-verdicts-%d", readers) )
			open_verdicts();
		return;
		}
	local why = fault(v);
	if ( why != "" )
		{
		skip_line(why);
		return;
		}
	if ( v$identifier in raised )
		return;
	if ( network_time() - v$ts > verdicts_max_age
	    || v$severity < verdicts_min_severity
	    || ( ! remembering && v$ts < started ) )
		{
		++verdicts_skipped;
		return;
		}
	remember(v$identifier, v$ts);
	if ( hook PacketCLIP::verdict(v) )
		raise_notice(v);
	}

# The reader stays with the file that it has opened, so a new file under the name needs a new reader. Each has a name of its own,
# for the old one ends in its own time.
function open_verdicts()
	{
	if ( reading )
		Input::remove(fmt("packetclip-verdicts-%d", readers));
	++readers;
	last_size = -1.0;
	shrunk = F;
	reading = file_size(verdicts_path) <= verdicts_max_bytes;
	if ( ! reading )
		{
		Reporter::warning(fmt("PacketCLIP: %s is not read, it is larger than verdicts_max_bytes",
		    verdicts_path));
		return;
		}
	Input::add_event(Input::EventDescription($source=verdicts_path,
	    $reader=Input::READER_ASCII, $mode=Input::STREAM, $name=fmt(
	    "packetclip-verdicts-%d", readers), $fields=Verdict,
	    $ev=PacketCLIP::verdict_line));
	}

# The word "moved" is missing where the file was cut, or the disk was full. Twice, so that the reader has come to the end of the
# old file before it is taken from it.
event PacketCLIP::check_size()
	{
	# Timers run out when Zeek ends.
	if ( zeek_is_terminating() )
		return;
	local size = file_size(verdicts_path);
	if ( reading == ( size > verdicts_max_bytes ) )
		open_verdicts();
	else if ( size < last_size )
		{
		if ( shrunk )
			open_verdicts();
		else
			shrunk = T;
		}
	else
		{
		shrunk = F;
		last_size = size;
		}
	schedule verdicts_check_interval { PacketCLIP::check_size() };
	}

event PacketCLIP::raised_line(description: Input::EventDescription,
    change: Input::Event, r: Raised)
	{
	if ( r$identifier == known_form )
		raised[r$identifier] = r$ts;
	}

function begin_reading()
	{
	if ( readers > 0 )
		return;
	rewrite_memory();
	open_verdicts();
	schedule verdicts_check_interval { PacketCLIP::check_size() };
	}

event PacketCLIP::raised_fault(description: Input::EventDescription,
    message: string, level: Reporter::Level)
	{
	Reporter::warning(fmt("PacketCLIP: %s: %s", description$source, message));
	# A file that cannot be opened has no end of data; a bad line in it has.
	if ( /cannot open/ in message )
		begin_reading();
	}

event Input::end_of_data(name: string, source: string)
	{
	if ( name != "packetclip-raised" )
		return;
	Input::remove(name);
	begin_reading();
	}

function read_memory()
	{
	local size = memory_is_ours ? file_size(raised_path) : 0.0;
	if ( size <= 0.0 || size > most_memory )
		begin_reading();
	else
		Input::add_event(Input::EventDescription($source=raised_path,
		    $reader=Input::READER_ASCII, $mode=Input::MANUAL,
		    $name="packetclip-raised", $fields=Raised,
		    $ev=PacketCLIP::raised_line,
		    $error_ev=PacketCLIP::raised_fault));
	}

event PacketCLIP::begin()
	{
	if ( raised_path == "" )
		{
		read_memory();
		return;
		}
	look_at_own_file(raised_path, function(fault: string)
		{
		memory_is_ours = fault == "";
		if ( ! memory_is_ours )
			forgetful(fault);
		read_memory();
		});
	}

event zeek_init()
	{
	if ( verdicts_path == ""
	    || Supervisor::is_supervisor()
	    || ( Cluster::is_enabled() && Cluster::local_node_type() != Cluster::MANAGER ) )
		return;
	started = reading_traces() ? double_to_time(0.0) : current_time();
	# Later, since an error while Zeek initializes ends it, and a folder that we may not write is no reason for that.
	schedule 1msec { PacketCLIP::begin() };
	}
