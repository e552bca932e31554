"""Says what is wrong with a set-up: a line for each part, and the remedy behind what is wrong.

Every part is looked at, even when one before it fails, and nothing is changed: no file is left, no template put. WRONG stops the
sensor or its documents and makes the exit code 1; `look` stops nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO, TypeVar

import msgspec

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import NO_MISSIONS
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.text import counted, printable, say
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config
from packetclip_sensor.elastic import inspection
from packetclip_sensor.elastic.streams import ALERTS, FLOWS, HEALTH
from packetclip_sensor.errors import SensorError
from packetclip_sensor.model import calibration_file
from packetclip_sensor.model.bundle import Bundle, manifest_of
from packetclip_sensor.normalize import quality
from packetclip_sensor.records import Flow, Packet, log_of
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.health import REJECTED_SHARE
from packetclip_sensor.sinks import zeek_notices
from packetclip_sensor.sinks.forward.forwarding import unreached
from packetclip_sensor.sinks.forward.targets import targets
from packetclip_sensor.sources import discovery, zeek
from packetclip_sensor.sources.discovery import archives_of
from packetclip_sensor.sources.file_registry import FileRegistry
from packetclip_sensor.sources.file_registry import Found as Listed
from packetclip_sensor.sources.other_alerts import recent
from packetclip_sensor.sources.suricata import setup

QUIET_S = 900.0
"""Age of the newest packet log after which a running Zeek is doubted."""
AHEAD_S = 5.0
"""Log times so far ahead of this machine's clock mean that one of the clocks is wrong."""
BEHIND_S, WRITTEN_S = 120.0, 60.0
"""A log written within WRITTEN_S whose last packet is BEHIND_S older than that: a clock, or a sniffer far behind."""
ARCHIVED_S, REJECTED_S = 86400.0, 86400.0
"""How far back rotated logs are looked at where there is no state, and rejected lines."""
MIN_FREE_BYTES = 256 << 20
"""Less room than this and the sensor cannot go on for long."""
LOW_FREE_BYTES, LOW_FREE_SHARE = 2 << 30, 0.05
"""Less than either is worth a look."""

LATE_S = 0.05
"""So much later than others are lines of one Zeek, too."""
Record = TypeVar("Record", Packet, Flow)

OK, WRONG, LOOK = True, False, None
HANG = 15
"""Where the words of a finding begin."""
MARKS = {OK: "ok", WRONG: "WRONG", LOOK: "look"}
Found = Iterator[tuple[bool | None, str]]
"""OK, WRONG or LOOK (a thing worth a look that stops nothing), and the words, with the remedy."""


class Finding(NamedTuple):
    """One line."""

    ok: bool | None
    part: str
    words: str


def report(config: Config, path: Path, file: TextIO, suricata: Path | None = None) -> bool:
    """Print every finding; True where nothing is wrong.

    Args:
        path: the configuration's file. suricata: that of the Suricata to look at as well.
    """
    well = True
    say(f"ok    config   {path}", file=file, hang=HANG)
    for finding in findings(config, path, suricata):
        say(f"{MARKS[finding.ok]:<5} {finding.part:<8} {printable(finding.words, 1000)}", file=file, hang=HANG, flush=True)
        well = well and finding.ok is not WRONG
    return well


def findings(config: Config, path: Path, suricata: Path | None = None) -> Iterator[Finding]:
    """Look at Suricata, where that is asked for, logs, state, model and sink, one after another."""
    for part, look in _checks(config, path, suricata):
        try:
            for ok, words in look():
                yield Finding(ok, part, words)
        except SensorError as err:
            yield Finding(WRONG, part, str(err))


def _checks(config: Config, path: Path, suricata: Path | None) -> Iterator[tuple[str, Callable[[], Found]]]:
    """What this configuration asks for, in the order of the data's way."""
    if suricata is not None:
        yield "suricata", partial(setup.inspect, suricata, config.logs)
    for folder in config.logs or [None]:
        yield "logs", partial(_logs, folder, config.lateness_s)
    yield "logs", partial(_archives, config)
    yield "logs", partial(_unread, config)
    yield "logs", partial(_rejected, config)
    if config.other_alerts:
        yield "others", partial(recent.inspect, config.other_alerts)
    yield "state", partial(_state, config, path)
    yield "model", partial(_model, config)
    if (calibration := config.policy.calibration) is not None:
        yield "model", partial(_calibration, config, calibration)
    if (rules := config.policy.suppress) is not None:
        yield "suppress", partial(_suppress, rules, config.model_path)
    if config.sink.cluster is not None:
        yield "sink", partial(_elasticsearch, config)
    if (ndjson := config.sink.ndjson) is not None:
        yield "sink", partial(_writable, ndjson.path.parent, f"alerts go to {ndjson.path}")
    if config.sink.webhook or config.sink.syslog:
        yield "sink", partial(_receivers, config)
    if (verdicts := config.zeek_feedback.path) is not None:
        yield "feedback", partial(_feedback, verdicts)


def _logs(path: Path | None, lateness_s: float) -> Found:
    """Are our logs there, are they JSON of our form, do they grow, do the clocks agree?"""
    if path is None:
        yield WRONG, "none named; set `logs` to Zeek's log folder, for example [/opt/zeek/logs/current]"
        return
    files = discovery.check_log(path)
    packets = [file for file, log in files if log == "packet"]
    packets.sort(key=lambda file: file.stat().st_mtime)
    newest = next((file for file in reversed(packets) if _readable(file)), packets[-1])
    head = discovery.first_bytes(newest)
    discovery.refuse_tsv(newest, head)
    line, newline, _ = head.partition(b"\n")
    if not newline:
        yield LOOK, f"{newest}: no whole line yet; is there traffic on Zeek's interface?"
        return
    try:
        zeek.packet(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        yield WRONG, f"{newest}: its first line is not of our form ({err}); take the Zeek package of the sensor's own version"
        return
    yield OK, f"{path}: {counted(len(packets), 'packet log')}, the newest {newest.name}"
    now, written = time.time(), newest.stat().st_mtime
    records, bad, reason = _last_lines(newest, zeek.packet)
    if bad >= max(1, REJECTED_SHARE * (bad + len(records))):
        what = f"{bad} of its last {bad + len(records)} lines are not of our form ({reason})"
        yield WRONG, f"{newest}: {what} and are rejected; see what else writes into it"
    last = records[-1].ts if records else None
    if now - written > QUIET_S:
        yield LOOK, f"{newest}: last written {_ago(now - written)} ago; is Zeek running, and is this its current log folder?"
    if last is not None and last > now + AHEAD_S:
        yield WRONG, f"{newest}: its last packet is {_ago(last - now)} in the future; set the clocks by NTP"
    if last is not None and now - written <= WRITTEN_S and written - last > BEHIND_S:
        lag = _ago(written - last)
        yield LOOK, f"{newest}: written now, but its last packet is {lag} old; set the clocks by NTP, or see why Zeek lags"
    yield from _link(newest, records, [file for file, log in files if log == "flow"], lateness_s)
    yield from _room(newest.parent, False, "Zeek cannot go on logging")


def _link(newest: Path, packets: list[Packet], flow_logs: list[Path], lateness_s: float) -> Found:
    """Does the link show all, once, and in order? `packets` are the last of the newest log."""
    if packets:
        late = quality.lateness_s(packets)
        words = f"{newest}: lines come up to {late:.1f} s later than others"
        if late > lateness_s + LATE_S:
            yield LOOK, f"{words}; set lateness_s: {math.ceil(2 * late) / 2:g}"
        elif lateness_s:
            yield OK, f"{words}, lateness_s is {lateness_s:g}"
    if len(packets) >= quality.FEW_PACKETS and (share := quality.copies_share(packets)) >= quality.MANY_COPIES:
        yield (
            LOOK,
            f"{newest}: {share:.0%} of the last packets are copies, which count once; let the mirror send one direction of each "
            "port, or one VLAN",
        )
    counters = Counters()
    for file in sorted(flow_logs, key=lambda file: file.stat().st_mtime)[-1:]:
        quality.count_connections(_last_lines(file, zeek.flow)[0], counters)
        if (seen := counters.connections) < quality.FEW_CONNECTIONS:
            continue
        if (share := counters.connections_one_way / seen) >= quality.MANY_ONE_WAY:
            words = f"of {share:.0%} of the last TCP connections one side is not seen"
            yield LOOK, f"{file}: {words}; give Zeek both directions of the link"
        if (share := counters.connections_with_gaps / seen) >= quality.MANY_GAPS:
            words = f"of {share:.0%} of the last TCP connections bytes are missing"
            yield LOOK, f"{file}: {words}; see Zeek's capture_loss.log, and give it more processors or less traffic"


def _readable(path: Path) -> bool:
    try:
        discovery.first_bytes(path)
    except SensorError:  # _unread tells of it
        return False
    return True


def _archives(config: Config) -> Found:
    """Where rotated logs are looked for; one that is named and not there is worth a look."""
    for folder in archives_of(config.logs, config.archives):
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield OK, f"rotated logs are looked for in {folder}"
        elif config.archives:
            yield LOOK, f"{folder} cannot be listed; mend `archives`, or let the sensor's user read it"


def _unread(config: Config) -> Found:
    """What of the logs cannot be read, and what the state knows of and is nowhere."""
    with contextlib.suppress(SensorError):  # _state tells what is wrong with it
        state = checkpoint.load(config.state_dir / "state.json")
        folders = archives_of(config.logs, config.archives)
        asked = [Listed(*found, True, "") for path in config.logs if path.is_dir() for found in discovery.logs_in(path)]
        with contextlib.closing(
            FileRegistry(state.positions, Rejects(None), block_bytes=1 << 20, max_line_bytes=1 << 20)
        ) as logs:
            for since in (state.judged or time.time() - ARCHIVED_S, 0.0):
                if since or logs.missing():
                    logs.scan(
                        [*asked, *(Listed(*found, False, "") for found in discovery.archived(folders, since))], finished=True
                    )
            for unread in logs.unread.values():
                yield WRONG if discovery.no_rights(unread.error) else LOOK, str(unread.error)
            for position in logs.missing():
                told = (
                    f"{position.path} was read up to byte {position.offset:,}, and is neither there nor among rotated logs: what"
                )
                yield LOOK, f"{told} came after that is not judged; keep rotated logs, and name their folder in `archives`"


def _rejected(config: Config) -> Found:
    """Lines that a running sensor rejected of late."""
    path = config.rejects
    with contextlib.suppress(OSError, IndexError, msgspec.DecodeError):
        ago_s = time.time() - path.stat().st_mtime
        if ago_s < REJECTED_S:
            last = msgspec.json.decode(_end_of(path)[-2], type=dict[str, object])
            yield LOOK, f"{path}: lines were rejected, the last {_ago(ago_s)} ago, of {last.get('path')}: {last.get('reason')}"


def _last_lines(path: Path, decode: Callable[[bytes], Record]) -> tuple[list[Record], int, str]:
    """Records of a log's last lines, how many of these are none, and why the last of them is; nothing of a packed log."""
    if not log_of(path.name) or not path.name.endswith(".log"):
        return [], 0, ""
    records, bad, reason = [], 0, ""
    for line in _end_of(path, 8 << 20)[1:-1]:
        try:
            records.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            bad, reason = bad + 1, str(err)
    return records, bad, reason


def _end_of(path: Path, size_bytes: int = 65536) -> list[bytes]:
    """The last bytes of a file as lines, with whatever part of a line stands first and last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size_bytes))
        return (b"\n" * (file.tell() == 0) + file.read()).split(b"\n")


def _state(config: Config, path: Path) -> Found:
    """Can it be written, is it this sensor's alone, and where would a restart go on?"""
    folder = config.state_dir
    yield from _writable(folder, f"remembered in {folder}")
    holder = checkpoint.holder(folder)
    if holder is not None and _runs(holder, path):
        yield OK, f"{folder}: the sensor of this configuration is running (process {holder})"
    elif holder is not None:
        by = f"process {holder or 'unknown'}"
        yield WRONG, f"{folder} is in use by another sensor ({by}); stop that one or name another state_dir"
    state = checkpoint.load(folder / "state.json")
    if state.positions:
        open_ = counted(len(state.episodes), "episode")
        yield OK, f"a restart goes on in {counted(len(state.positions), 'file')}, {open_} open"


def _runs(process: str, path: Path) -> bool:
    """Whether a process is a sensor with this configuration file (Linux; elsewhere nobody can tell)."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    folder = Path("/")
    with contextlib.suppress(OSError):  # another user's process keeps its folder to itself
        folder = Path(f"/proc/{process}/cwd").readlink()
    files = [word.removeprefix("--config=") for word in words]
    return "run" in words and any((folder / word).resolve() == path.resolve() for word in files if word)


def _model(config: Config) -> Found:
    """Is the bundle whole, and does the configuration fit it?"""
    bundle = Bundle.open(config.model_path)
    manifest = bundle.manifest
    policy = for_missions(config.policy, manifest.missions)
    own = policy.thresholds
    thresholds = manifest.thresholds | own
    words = ", ".join(f"{mission} {value:.3f}" for mission, value in thresholds.items())
    wide = {mission: value for mission, value in (manifest.margins | policy.margins).items() if value}
    if wide:
        words += f", and together with others down to {', '.join(f'{m} {v:g}' for m, v in wide.items())} logits below"
    yield OK, f"version {manifest.version} from {bundle.path}; a verdict counts from probability {words}"
    if policy.shadow:
        yield (
            LOOK,
            "policy.shadow: every alert has the lowest severity and Zeek gets no verdicts; take it away to alert in earnest",
        )
    for mission, value in own.items():
        if value > (ceiling := manifest.ceilings.get(mission, 1.0)):
            yield (
                LOOK,
                f"policy.thresholds: {mission} {value} is above {ceiling:.3f}, from where most attacks are missed; lower it",
            )
    remembered = manifest.window.connections
    packets = {f"policy.least.{mission}.packets": least.packets or 0 for mission, least in policy.least.items()}
    for key, most in ({"policy.open_packets": policy.open_packets} | packets).items():
        if most > remembered:
            yield (
                LOOK,
                f"{key} is {most}, a window of the model remembers {remembered} connections: what sends one packet in each opens "
                "no episode; lower it",
            )
    for mission, least in policy.least.items():
        if (least.connections or 0) > remembered:
            yield (
                WRONG,
                f"policy.least.{mission}.connections is {least.connections}, a window of the model remembers {remembered}: no "
                f"{mission} over TCP would ever be reported; lower it",
            )
    with contextlib.suppress(SensorError):  # _state tells what is wrong with it
        before = checkpoint.load(config.state_dir / "state.json").model_version
        if before not in ("", manifest.version):
            yield (
                LOOK,
                f"the state is of model {before}, this one is {manifest.version}: the same traffic gets other document ids",
            )


def _calibration(config: Config, file: Path) -> Found:
    """Is the site's calibration there, and for this model?"""
    fitted = calibration_file.load(file, config.model_path).thresholds
    yield OK, f"calibrated by {file}: {', '.join(f'{mission} {value:.3f}' for mission, value in fitted.items())}"


def _suppress(path: Path, model: Path) -> Found:
    rules = suppression_rules.load(path, manifest_of(model).missions)
    ended = [rule for rule in rules if not rule.live(time.time())]
    yield OK, f"{counted(len(rules) - len(ended), 'rule')} of {path} in force"
    for rule in ended:
        yield LOOK, f"{path}:{rule.line} has expired and suppresses nothing; prolong it or remove it ({rule.comment})"


def _elasticsearch(config: Config) -> Found:
    """Is it there, does it let us in, would it take our documents?"""
    cluster = config.sink.cluster
    assert cluster is not None
    yield from _writable(cluster.dead_letter_path.parent, f"refused documents go to {cluster.dead_letter_path}")
    datasets = [ALERTS] + [FLOWS] * config.hunt.enabled + [HEALTH] * bool(config.health.documents_s)
    try:
        missions = manifest_of(config.model_path).missions
    except SensorError:  # _model tells what is wrong with it; without missions nothing is said of their fields
        missions = NO_MISSIONS
    yield from inspection.findings(cluster, missions, datasets)


def _receivers(config: Config) -> Found:
    """Do webhook and syslog take a connection, and show a certificate that is trusted? Nothing is sent."""
    for target in targets(config):
        try:
            target.probe()
        except OSError as err:
            yield WRONG, unreached(f"sink.{target.name}", target.where, err)
        else:
            yield OK, f"{target.name} {target.where}: takes connections; whether it takes documents is seen at the first alert"


def _feedback(verdicts: Path) -> Found:
    yield from _writable(verdicts.parent, f"verdicts for Zeek go to {verdicts}")
    if words := zeek_notices.shared(verdicts.parent):
        yield LOOK, words


def _writable(folder: Path, words: str) -> Found:
    """The folder, or the nearest one above it that exists, must let us write; and there must be room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        yield WRONG, f"{there} is no folder; name another place than {folder}"
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield WRONG, f"{there} does not let this user write; make it writable for the sensor's user or set another place"
        return
    yield from _room(there, True, "the sensor cannot go on")
    yield OK, words


def _room(folder: Path, ours: bool, stops: str) -> Found:
    """Bytes and inodes that are left on a disk.

    Args:
        ours: whether a full disk stops the sensor, or somebody else.
        stops: what ends when there is none left.
    """
    disk = os.statvfs(folder)
    free, share = disk.f_bavail * disk.f_frsize, disk.f_bavail / max(1, disk.f_blocks)
    left = f"{free >> 20:,} MiB ({share:.1%}) free"
    if free < MIN_FREE_BYTES or (disk.f_files and not disk.f_favail):
        left = left if free < MIN_FREE_BYTES else "no inode free"
        yield WRONG if ours else LOOK, f"{folder}: {left}: {stops}; make room, or put it on another disk"
    elif free < LOW_FREE_BYTES or share < LOW_FREE_SHARE:
        yield LOOK, f"{folder}: only {left}; make room soon"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
