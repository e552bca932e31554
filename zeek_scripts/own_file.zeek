##! Whether a file lies where Zeek alone chooses what is written: Zeek's script functions open a file by its name, follow links, and
##! cannot ask whose a folder is. A few lines of shell can.

@load base/utils/exec

module PacketCLIP;

export {
	## Look whether a file of ours, there or not yet, lies in a folder of this user's own, which is made where it is missing.
	##
	## path: the file.
	##
	## then: called with what is wrong, in words; empty where all is well.
	global look_at_own_file: function(path: string, then: function(fault: string));
}

# Whether the file's folder ($1) is one in which nobody else chooses what is written: its real path and all above it of this user
# or root, and writable for no other; above it a sticky one, as /tmp, will do. The file ($2) is regular and ours, or not there.
const ours_alone = "umask 077; no() { echo $1; exit 0; }; me=$(id -u) || no 1; "
    + "[ -d \"$1\" ] || mkdir \"$1\" || no 2; d=$(cd -P \"$1\" && pwd -P) || no 2; "
    + "[ -n \"$(find \"$d\" -prune -user \"$me\" ! -perm -020 ! -perm -002)\" ] || no 3; "
    + "while [ \"$d\" != / ]; do d=$(dirname \"$d\"); [ -n \"$(find \"$d\" -prune '(' -user 0 -o -user \"$me\" ')' "
    + "'(' ! -perm -020 ! -perm -002 -o -perm -1000 ')')\" ] || no 4; done; "
    + "for f in \"$2\" \"$2.new\"; do [ ! -e \"$f\" ] && [ ! -L \"$f\" ] "
    + "|| [ -n \"$(find \"$f\" -prune -type f -user \"$me\")\" ] || no 5; done; no 0";

const faults: table[string] of string = {
	["2"] = "its folder is not there and cannot be made",
	["3"] = "its folder is another user's, or others may write there",
	["4"] = "a folder above it is another user's, or others may write there",
	["5"] = "it is a link, or another user's",
} &default="its folder could not be looked at";

function look_at_own_file(path: string, then: function(fault: string))
	{
	local folder = sub(path, /[^\/]*$/, "");
	local command = fmt("set -- %s %s; %s", safe_shell_quote(folder == "" ? "." :
	    folder), safe_shell_quote(path), ours_alone);
	when [command, then] ( local found = Exec::run(Exec::Command($cmd=command)) )
		{
		local said = found?$stdout && |found$stdout| > 0 ? found$stdout[0] : "";
		then(said == "0" ? "" : faults[said]);
		}
	timeout 10sec
		{
		then(faults[""]);
		}
	}
