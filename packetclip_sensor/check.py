"""Says what is wrong with a set-up: a line for each part, and the remedy behind what is wrong.

Every part is looked at, even when one before it fails, and nothing is changed: no file is left, no template put.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import msgspec
from elasticsearch import ApiError, TransportError

from packetclip_sensor import checkpoint, suppression
from packetclip_sensor.bundle import Bundle
from packetclip_sensor.config import Config
from packetclip_sensor.documents import printable
from packetclip_sensor.errors import SensorError
from packetclip_sensor.records import Packet
from packetclip_sensor.sinks.cluster import ElasticsearchConfig, connect
from packetclip_sensor.sinks.templates import stream_name
from packetclip_sensor.sources import units

QUIET_S = 900.0
"""Age of the newest packet log after which a running Zeek is doubted."""
AHEAD_S = 5.0
"""Log times so far ahead of this machine's clock mean that one of the clocks is wrong."""
MIN_FREE_BYTES = 100 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `ok` is True, False, or None for a thing worth a look that stops nothing."""

    ok: bool | None
    part: str
    words: str


def report(config: Config, path: Path, file: TextIO) -> bool:
    """Print every finding; True where nothing is wrong."""
    well = True
    print(f"ok    config   {path}", file=file)
    for finding in findings(config):
        mark = {True: "ok", False: "WRONG", None: "look"}[finding.ok]
        print(f"{mark:<5} {finding.part:<8} {printable(finding.words, 1000)}", file=file, flush=True)
        well = well and finding.ok is not False
    return well


def findings(config: Config) -> Iterator[Finding]:
    """Look at logs, state, model and sink, one after another."""
    if not config.logs:
        yield Finding(False, "logs", "none named; set `logs` to Zeek's log folder, for example [/opt/zeek/logs/current]")
    for folder in config.logs:
        yield from _guarded("logs", partial(_logs, folder))
    yield from _guarded("state", partial(_state, config.state_dir))
    yield from _guarded("model", partial(_model, config))
    if config.policy.suppress is not None:
        yield from _guarded("suppress", partial(_suppress, config.policy.suppress))
    if config.sink.elasticsearch is not None:
        yield from _guarded("sink", partial(_elasticsearch, config.sink.elasticsearch))
    elif config.sink.ndjson is not None:
        file = config.sink.ndjson.path
        yield from _guarded("sink", partial(_writable, file.parent, f"alerts go to {file}"))
    if config.zeek_feedback.path is not None:
        file = config.zeek_feedback.path
        yield from _guarded("feedback", partial(_writable, file.parent, f"verdicts for Zeek go to {file}"))


def _guarded(part: str, look: Callable[[], Iterator[tuple[bool | None, str]]]) -> Iterator[Finding]:
    try:
        for ok, words in look():
            yield Finding(ok, part, words)
    except SensorError as err:
        yield Finding(False, part, str(err))


def _logs(path: Path) -> Iterator[tuple[bool | None, str]]:
    """Are our logs there, are they JSON of our form, do they grow, do the clocks agree?"""
    files = units.check_folder(path) if path.is_dir() or not path.exists() else [(path, "packet")]
    packets = [file for file, log in files if log == "packet"]
    newest = max(packets, key=lambda file: file.stat().st_mtime)
    head = units.first_bytes(newest)
    units.refuse_tsv(newest, head)
    line, newline, _ = head.partition(b"\n")
    if not newline:
        yield None, f"{newest}: no whole line yet; is there traffic on Zeek's interface?"
        return
    try:
        msgspec.json.decode(line, type=Packet)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        yield False, f"{newest}: its first line is not of our form ({err}); take the Zeek package of the sensor's own version"
        return
    yield True, f"{path}: {len(packets)} packet logs, the newest {newest.name}"
    age_s = time.time() - newest.stat().st_mtime
    if age_s > QUIET_S:
        yield None, f"{newest}: last written {_ago(age_s)} ago; is Zeek running, and is this its current log folder?"
    last = _last_packet(newest)
    if last is not None and last.ts > time.time() + AHEAD_S:
        yield False, f"{newest}: its last packet is {_ago(last.ts - time.time())} in the future; set the clocks by NTP"


def _last_packet(path: Path) -> Packet | None:
    """The packet of the last whole line; None for a .gz or where it is not of our form."""
    if path.suffix == ".gz":
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        lines = file.read().split(b"\n")
    try:
        return msgspec.json.decode(lines[-2], type=Packet)
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _state(folder: Path) -> Iterator[tuple[bool | None, str]]:
    yield from _writable(folder, f"remembered in {folder}")
    state = checkpoint.load(folder / "state.json")
    if state.positions:
        yield True, f"a restart goes on in {len(state.positions)} files, {len(state.episodes)} episodes open"


def _model(config: Config) -> Iterator[tuple[bool | None, str]]:
    bundle = Bundle.open(config.model_path)
    thresholds = bundle.manifest.thresholds | config.policy.thresholds
    words = ", ".join(f"{mission} {value:.3f}" for mission, value in thresholds.items())
    yield True, f"version {bundle.manifest.version} from {bundle.path}; a verdict counts from probability {words}"


def _suppress(path: Path) -> Iterator[tuple[bool | None, str]]:
    rules = suppression.load(path)
    ended = [rule for rule in rules if not rule.live(time.time())]
    yield True, f"{len(rules) - len(ended)} rules of {path} are in force"
    for rule in ended:
        yield None, f"{path}:{rule.line} has expired and silences nothing; prolong it or take it out ({rule.comment})"


def _elasticsearch(config: ElasticsearchConfig) -> Iterator[tuple[bool | None, str]]:
    """Is it there, does it let us in, what is its health?"""
    hosts = ", ".join(config.hosts)
    yield from _writable(Path(config.dead_letter_path).parent, f"refused documents go to {config.dead_letter_path}")
    with connect(config) as client:
        try:
            health = client.cluster.health()
        except ApiError as err:
            remedy = {
                401: "check the API key or the password, and that it has not expired",
                403: "give the key the cluster privilege `monitor`, and `create_doc` on logs-packetclip.alert-*",
            }.get(err.status_code, "look into the server's log")
            yield False, f"Elasticsearch {hosts}: answers {err.status_code}; {remedy}"
        except TransportError as err:
            yield (
                False,
                f"Elasticsearch {hosts}: {err.message}; check address, certificate (`ca_certs`) and firewall, and that it runs",
            )
        else:
            words = f"cluster {health['cluster_name']} is {health['status']}; alerts go to {stream_name(config.namespace)}"
            yield health["status"] != "red" or None, f"Elasticsearch {hosts}: {words}"


def _writable(folder: Path, words: str) -> Iterator[tuple[bool | None, str]]:
    """The folder, or the nearest one above it that exists, must let us write; and there must be room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        yield False, f"{there} is no folder; name another place than {folder}"
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield False, f"{there} does not let this user write; make it writable for the sensor's user or set another place"
        return
    stat = os.statvfs(there)
    free = stat.f_bavail * stat.f_frsize
    if free < MIN_FREE_BYTES:
        yield None, f"{there}: only {free >> 20} MiB free; make room"
    yield True, words


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
