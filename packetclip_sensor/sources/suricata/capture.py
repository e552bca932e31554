"""Captures to logs where there is no Zeek: runs Suricata with our script over a pcap.

It runs with the small configuration that a site may use beside its own Suricata, in one thread: so the order of the packets
stays, and a replay gives the same records each time but for the flow ids, which Suricata seeds anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError, LogFormatError

OLDEST = 7
_NO_PACKET = "pcap_next_ex(): -2"
"""What Suricata says of a capture that ends behind its header."""
_WAITS = "failed to initialize"
"""What Suricata says of a capture that it cannot read, before it waits a minute for its own thread."""
_VERSION = re.compile(r"Suricata version ((\d+)\.\S*)")
_TIME, _END = re.compile(rb'{"timestamp":"[^"]*"'), re.compile(rb'"end":"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Suricata:
    """An installed Suricata: its program and its version, of which the first number says how our script is loaded."""

    program: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_suricata(program: str = "suricata") -> Suricata | None:
    """Suricata 7.0 or newer, from PATH or by the path given; None where there is none."""
    found = shutil.which(program)
    if found is None:
        return None
    try:
        printed = subprocess.run([found, "-V"], capture_output=True, check=False, text=True, errors="backslashreplace").stdout
    except OSError:
        return None
    version = _VERSION.search(printed)
    return Suricata(Path(found), version[1]) if version and int(version[2]) >= OLDEST else None


def loading(major: int, scripts: Path, *, output: int = 1) -> list[str]:
    """Arguments with which a Suricata of this version writes the packet log, and has no other rules.

    Args:
        output: place of the script among the configuration's outputs, in 8.0; the small configuration has one before it.
    """
    if major == OLDEST:
        rule = ["-S", str(scripts / "packetclip.rules"), "--set", f"default-rule-path={scripts}"]
        return [*rule, "--set", "security.lua.allow-rules=true"]
    script = ("=lua", ".lua.enabled=yes", f".lua.scripts-dir={scripts}", ".lua.scripts.0=packetclip.lua")
    return ["-S", "/dev/null", *(part for value in script for part in ("--set", f"outputs.{output}{value}"))]


def command(suricata: Suricata, pcap: Path, workdir: Path, *, runmode: str = "single") -> list[str]:
    """Program and arguments that read a plain capture and write the logs to `workdir`."""
    scripts = resource("suricata_scripts")
    # -k none: captures made on the sending host have checksums that its network card fills in later.
    own = [str(suricata.program), "-c", str(scripts / "packetclip.yaml"), "-r", str(pcap), "-l", str(workdir), "-k", "none"]
    return [*own, "--runmode", runmode, "--init-errors-fatal", *loading(suricata.major, scripts)]


def environment(**options: int) -> dict[str, str]:
    """Environment of a Suricata whose script has these options, such as MAX_NEW_FLOWS."""
    return {**os.environ, **{f"PACKETCLIP_{name}": str(value) for name, value in options.items()}}


def run(suricata: Suricata, pcap: Path, workdir: Path, *, given: Path | None = None, **options: int) -> None:
    """Run Suricata over a plain capture; packetclip_packet.log, and eve.json with its flows by their ends, come to `workdir`.

    Args:
        given: the capture as the user named it. options: those of the script, such as MAX_NEW_FLOWS.
    Raises:
        ConfigError: it cannot be started.
        LogFormatError: it fails, or found no IP packet.
    """
    named = given or pcap
    printed = ""
    try:
        with subprocess.Popen(
            command(suricata, pcap, workdir), env=environment(**options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as running:
            for line in running.stdout or ():
                printed += line.decode("utf-8", "backslashreplace")
                if _WAITS in printed:
                    running.kill()
    except OSError as err:
        raise ConfigError(f"{suricata.program} cannot be started ({err.strerror}); install Suricata again") from err
    why = re.findall(r"^E(?:rror)?: (.*)|(PacketCLIP: .*)", printed, re.MULTILINE) or [(f"exit status {running.returncode}", "")]
    if (running.returncode and _NO_PACKET not in printed) or "PacketCLIP: " in printed:
        raise LogFormatError(f"suricata could not read {named}: {''.join(why[0])}; is it a whole pcap or pcapng?")
    if not (workdir / "packetclip_packet.log").exists():
        what = "Suricata saw no IP packet in it, or only protocols that it keeps no flow for"
        raise LogFormatError(f"{named} gave no packetclip_packet.log: {what}; give another capture")
    _by_end(workdir / "eve.json")


def _by_end(events: Path) -> None:
    """Put the rows of flows in the order of the flows' ends, which become the rows' times: a capture is read faster than its time
    went, so Suricata writes most rows at its end, in no order."""
    rows = sorted((end[1], line) for line in events.read_bytes().splitlines() if (end := _END.search(line)))
    with events.open("wb") as file:
        file.writelines(_TIME.sub(b'{"timestamp":"%s"' % end, line, count=1) + b"\n" for end, line in rows)
