"""What is fuzzed: each target takes bytes, does what the sensor would do with them, and checks what must always hold.

Only the sensor's own errors may come out; everything else is a find.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import captures
import msgspec
import numpy as np
from factories import MISSIONS, alert, episode, packet
from tailing import packers

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config import config_file
from packetclip_sensor.errors import ConfigError, LogFormatError, ModelBundleError, SinkError
from packetclip_sensor.model.bundle import MANIFEST, graphs_of, manifest_of
from packetclip_sensor.model.onnx_file import names_other_files
from packetclip_sensor.records import Batch, Evidence, Lines, Packet, Position
from packetclip_sensor.service import checkpoint
from packetclip_sensor.sinks import dead_letters
from packetclip_sensor.sinks import zeek_notices as feedback
from packetclip_sensor.sources import pcap, tail, zeek
from packetclip_sensor.windows import headers, payload, tokens
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.windows import Window

DATA = Path(__file__).parents[1] / "data"
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
"""Files of targets that read files: a million writes are nothing for a disk."""


@dataclass(frozen=True)
class Target:
    """One reader of bytes from outside."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    """What a plain mutator would not find by chance."""
    longest: int = 512
    """Bytes of an input."""


def recorded(capture: str, log: str, lines: int) -> list[bytes]:
    return gzip.decompress((DATA / capture / f"packetclip_{log}.log.gz").read_bytes()).splitlines(keepends=True)[:lines]


def _lines(log: str, data: bytes) -> tuple[list[Batch], int]:
    """The batches of one block, and how many lines were rejected."""
    data = data if data.endswith(b"\n") else data + b"\n"
    start = Position(f"packetclip_{log}.log", 1, 1, 0, "", 0)
    counters, rejects = Counters(), Rejects(None)
    end = msgspec.structs.replace(start, offset=len(data))
    found = list(zeek.batches([Lines(log, data, start, end)], rejects, counters))
    whole = sum(bool(line.strip()) for line in data.split(b"\n"))
    # Not as many: a record may go on in the next line, which JSON allows and nobody writes.
    read = counters.packets + counters.flows
    assert (read + rejects.count > 0) == (whole > 0), f"{whole} lines, {read} read, {rejects.count} rejected"
    return found, rejects.count


EVE_ROW = (
    b'{"timestamp":"2026-11-21T12:42:07.036216+0000","flow_id":1397081985311353,"event_type":"flow","vlan":[10],"src_ip":"192.0.2.1",'
    b'"src_port":33131,"dest_ip":"2001:0db8:0000:0000:0000:0000:0000:0001","dest_port":443,"proto":"TCP","app_proto":"tls","flow":'
    b'{"pkts_toserver":8,"pkts_toclient":5,"bytes_toserver":741,"bytes_toclient":342,"start":"2026-11-21T12:41:56.325283+0000",'
    b'"end":"2026-11-21T12:41:56.341960+0000"},"community_id":"1:aQ=","tcp":{"tcp_flags_ts":"1b","tcp_flags_tc":"1b"}}\n'
)


def eve_lines(data: bytes) -> None:
    """Lines of Suricata's eve.json to flow records."""
    start = Position("eve.json", 1, 1, 0, "", 0)
    counters, rejects = Counters(), Rejects(None)
    block = Lines("flow", data, start, msgspec.structs.replace(start, offset=len(data)))
    for batch in zeek.batches([block], rejects, counters):
        for flow in batch.flows:
            assert 0 < flow.ts < 1e10
            msgspec.convert(msgspec.to_builtins(flow), type(flow))


SMALL = Window(packets=5, seconds=4.0, min_packets=2, connections=3)


def packet_lines(data: bytes) -> None:
    """Lines of packetclip_packet.log to records to windows."""
    batches, _ = _lines("packet", data)
    if any(batch.packets for batch in batches):
        list(windows([*batches, Batch([], [], final=True)], SMALL, Counters()))


def flow_lines(data: bytes) -> None:
    """Lines of packetclip_flow.log to records."""
    _lines("flow", data)


BATCH: list[bytes] = []
BATCH_SIZE = 256


def packet_bytes(data: bytes) -> None:
    """Packets to headers, masks and tokens, in batches as in the sensor."""
    BATCH.append(data)
    if len(BATCH) < BATCH_SIZE:
        return
    rows, captured = headers.rows(BATCH, tokens.ROW_BYTES)
    head = headers.parse(rows, captured, np.array([len(packet) for packet in BATCH]))
    row_tokens = tokens.tokenize(head)
    assert row_tokens.shape == (BATCH_SIZE, tokens.ROW_BYTES)
    assert int(row_tokens.max()) < tokens.VOCABULARY
    padded = (row_tokens == tokens.PAD).sum(axis=1)
    assert (padded == tokens.ROW_BYTES - captured).all()
    assert (head.payload_bytes >= 0).all()
    BATCH.clear()


PLAIN = re.compile(r"[A-Za-z0-9 ,.:/()-]{1,100}")


def packet_words(data: bytes) -> None:
    """Packets to words, which go into pages and prompts: nothing of a packet's own may stand in them."""
    words = payload.words(data)
    assert PLAIN.fullmatch(words), f"has {words!r}"


def settings(data: bytes) -> None:
    """A configuration file."""
    with suppress(ConfigError):
        config_file.parse(data.decode("utf-8", "replace"), "fuzz.yaml", Path("/etc/packetclip"))


def rules(data: bytes) -> None:
    """A file of suppression rules."""
    with suppress(ConfigError):
        suppression_rules.parse(data.decode("utf-8", "replace"), "fuzz.yaml", MISSIONS)


def _file(name: str, data: bytes) -> Path:
    path = MEMORY / f"packetclip-fuzz-{name}"
    path.write_bytes(data)
    return path


def manifest(data: bytes) -> None:
    """A bundle's manifest.json."""
    folder = MEMORY / "packetclip-fuzz-bundle"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(data)
    with suppress(ModelBundleError):
        manifest_of(folder)


def graphs(data: bytes) -> None:
    """A bundle's graphs.json: what is accepted can be walked as explanations walk it."""
    with suppress(ModelBundleError):
        for graph in graphs_of(Path("fuzz"), data):
            known = {concept for level in graph.levels for concept in level}
            assert {end for edge in graph.edges for end in edge} <= known
            assert set(graph.leaves) <= known
            assert [len(level) for level in graph.own[: len(graph.levels)]] == [len(level) for level in graph.levels]


def onnx_file(data: bytes) -> None:
    """A bundle's model, looked through for names of other files."""
    with suppress(ValueError):
        names_other_files(data)


def state(data: bytes) -> None:
    """A state file."""
    with suppress(ConfigError):
        checkpoint.load(_file("state.json", data))


def letters(data: bytes) -> None:
    """A file of dead letters."""
    with suppress(SinkError):
        list(dead_letters.read(_file("dead.ndjson", data)))


def capture(data: bytes) -> None:
    """A pcap or pcapng, packed or not: what goes on to Zeek are whole packets."""
    path = MEMORY / "packetclip-fuzz.pcap"
    path.write_bytes(data)
    with suppress(LogFormatError):
        file = pcap.CaptureFile(path)
        assert sum(1 for block in file.blocks() for _ in pcap.times(file, block)) == file.packets


def packed_log(data: bytes) -> None:
    """A rotated and packed log, perhaps damaged."""
    path = MEMORY / "packetclip_packet.fuzz.log.gz"
    path.write_bytes(data)
    with suppress(LogFormatError):
        for _ in zeek.batches(tail.finite([path], rejects=Rejects(None)), Rejects(None), Counters()):
            pass


def verdict_file(data: bytes) -> None:
    """The file for Zeek, as another hand may have left it."""
    path = MEMORY / "packetclip-fuzz-verdicts.tsv"
    path.write_bytes(feedback.HEADER + data)
    try:
        with suppress(SinkError):
            list(feedback.write([], path, Counters(), MISSIONS, max_bytes=1 << 20))
    finally:
        for left in MEMORY.glob("packetclip-fuzz-verdicts.tsv*"):
            left.unlink()


def unescaped(text: bytes) -> bytes:
    r"""As Zeek's reader undoes `\xHH`: Zeek 8.0.6, src/util.cc, get_unescaped_string."""
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), text)


def verdict_line(data: bytes) -> None:
    """An alert with hostile names and texts, as a line for Zeek: one line, all columns, and the texts come back."""
    parts = [part.decode("utf-8", "replace") for part in data.split(b"|")] + [""] * 6
    seen = packet(uid=parts[0], orig_h=parts[1], resp_h=parts[2], proto=parts[3], data=data)
    story = episode(sources=[parts[1]], destinations=[parts[2]])
    written = alert(title=parts[4], reason=parts[5], episode=story, evidence=(Evidence(seen, 0.5, ""),))
    line = feedback.line(written, "e1", 47)
    assert len(line) <= feedback.PAGE_BYTES
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    fields = line[:-1].split(b"\t")
    assert len(fields) == len(feedback.COLUMNS)
    assert fields[-1] == feedback.END.encode()
    columns = dict(zip(feedback.COLUMNS, fields, strict=True))
    for column in ("uid", "msg", "sub"):
        assert columns[column] == b"-" or unescaped(columns[column]) != b"-" or columns[column] == b"\\x2d"
    assert unescaped(columns["uid"]) == seen.uid[:64].encode("utf-8", "replace") or columns["uid"] == b"-"
    assert not any(byte < 32 for byte in line[:-1] if byte != 9)


CONFIGURATIONS = (
    "logs: [/a, b]\nstate_dir: s\nsink: {elasticsearch: {hosts: ['http://h:9200'], batch_bytes: 5}}\n",
    "policy:\n  thresholds: {DoS: 0.9, Brute Force: 1}\n  update_s: 30\nnamespace: x\nlog_level: debug\n",
    "sink:\n  ndjson:\n    path: ~/alerts.ndjson\nzeek_feedback: {path: v.tsv, max_bytes: 65536}\nhealth: {port: 0}\n",
    "a: &a [*a]\nb: !!timestamp 2001-01-01\nc: 0x1F\nd: 1:30:00\n? k\n: |\n  text\n",
)
YAML_WORDS = (
    *(b"!!int ", b"!!float ", b"!!bool ", b"!!timestamp ", b"!!binary ", b"!!set ", b"!!omap ", b"!!python/name:os ", b"!!null "),
    *(b"<<: ", b"&a ", b"*a", b"? ", b": ", b"- ", b"|\n ", b">\n ", b"'", b'"', b"\\x00", b"%YAML 1.1\n", b"---\n", b"...\n"),
    *(b"{", b"[", b"}", b"2001-99-99", b"2001-12-14t21:59:43.10-05:00", b".inf", b".nan", b"0b2", b"0o9", b"190:20:30", b"~"),
    *(b"\xef\xbb\xbf", b"\xc2\x85"),
)  # fmt: skip
RULES = (
    "- comment: backup\n  source: 10.0.0.5\n  destination: [10.0.0.0/8, 'fd00::/8']\n  expires: 2027-01-01\n",
    "- comment: x\n  pair: 10.0.0.1 10.0.0.2\n  service: tcp/80-90\n  mission: DoS\n",
    "- {comment: y, class: Port Scan, expires: never}\n",
    "- comment: z\n  service: [icmp, udp/53]\n  source: any\n",
)
JSON_WORDS = (
    *(b"null", b"true", b"-1", b"1e999", b"-0.0", b"NaN", b"1" * 40, b"18446744073709551616", b'""', b"[]", b"{}"),
    *(b"\\ud800", b"\\u0000"),
    *(b"[" * 40, b'{"a":' * 20, b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"0.1e-400", b"\r", b"\n\n"),
)  # fmt: skip
PACKED_WORDS = (b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"BZh9", b"\x28\xb5\x2f\xfd", b"\x0a\x0d\x0d\x0a", bytes(4), b"\xff" * 4)
PAYLOAD_WORDS = (
    *(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 401 ", b"SSH-2.0-", b"220 x\r\n", b"USER a\r\n", b"\x16\x03\x01\x00\x05"),
    *(b"\xff\xfd\x18", b"\x10\x0c\0\4MQTT", b"\x30\x26\2\1\1", b"M-SEARCH", b"OPTIONS sip:", b"\0\0\0\x0aSMB", b"password: "),
    *(b"\x01\x01\x06\0", b"/../"),
)  # fmt: skip


def _manifest_seed() -> list[bytes]:
    return [(resource("model/shipped") / MANIFEST).read_bytes()]


def _graphs_seed() -> list[bytes]:
    graph = {
        "mission": "DoS",
        "levels": [["a", "b"], ["c"]],
        "edges": [["a", "c"]],
        "leaves": ["c"],
        "own": [[[1], [2]], [[3]], [[4]]],
    }
    return [json.dumps([graph]).encode(), json.dumps([graph, graph]).encode()]


def _packets() -> list[bytes]:
    rows = [msgspec.json.decode(line, type=Packet) for name in CAPTURES for line in recorded(name, "packet", 60)]
    return [row.data for row in rows]


CAPTURES = ("demo-b00-startup-discovery", "demo-dict-patator-ftp", "demo-icmp-t50", "demo-os-nping", "demo-vuln-gobuster")


def _logs(log: str) -> list[bytes]:
    return [b"".join(recorded(name, log, 3)) for name in CAPTURES]


def _captures() -> list[bytes]:
    rows = captures.packets(4)
    two = captures.pcapng(((n % 2, *row) for n, row in enumerate(rows)), links=(1, 113))
    plain = [captures.pcap(rows), captures.pcap(rows, order=">", ticks=1_000_000_000), two]
    return plain + [pack(two) for pack in packers().values()]


def _state_seed() -> list[bytes]:
    position = Position("/logs/packetclip_packet.log", 1, 2, 3, "ab" * 32, 4)
    path = MEMORY / "packetclip-fuzz-seed.json"
    checkpoint.save(path, checkpoint.State(positions=(position,), judged=3, episodes=(episode(),), model_version="m"))
    whole = path.read_bytes()
    return [whole, whole.split(b"\n")[0]]


def _verdict_seed() -> list[bytes]:
    return [
        b"1.0\te1\topen\tDoS\t47\t0.5\t3\t10.0.0.1\t10.0.0.2\t80/tcp\tC1\te1\tmsg\tsub\t.\n",
        b"0\t-\tmoved\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\t.\n",
    ]


ONNX = [b"\x3a\x04\x2a\x02\x70\x01", b"\x3a\x08\x0a\x06\x2a\x04\x32\x02\x2a\x00"]
"""A model with a graph with a tensor whose data lie outside, and one with a tensor in a node's graph."""

TARGETS: dict[str, Target] = {
    "packet-lines": Target(packet_lines, lambda: _logs("packet"), JSON_WORDS, 1500),
    "flow-lines": Target(flow_lines, lambda: _logs("flow"), JSON_WORDS, 2500),
    "eve-lines": Target(
        eve_lines, lambda: [EVE_ROW, EVE_ROW.replace(b"TCP", b"ICMP"), b'{"event_type":"dns"}\n'], JSON_WORDS, 1500
    ),
    "tokens": Target(packet_bytes, _packets, PAYLOAD_WORDS, 200),
    "payload": Target(packet_words, _packets, PAYLOAD_WORDS, 200),
    "config": Target(settings, lambda: [text.encode() for text in CONFIGURATIONS], YAML_WORDS, 160),
    "suppression": Target(rules, lambda: [text.encode() for text in RULES], YAML_WORDS, 160),
    "manifest": Target(manifest, _manifest_seed, JSON_WORDS, 8192),
    "graphs": Target(graphs, _graphs_seed, JSON_WORDS, 4096),
    "onnx": Target(onnx_file, lambda: ONNX, (b"\x80" * 11, b"\x3a", b"\x6a")),
    "state": Target(state, _state_seed, JSON_WORDS, 1500),
    "dead-letters": Target(letters, lambda: [b'{"id":"a","status":400,"type":"t","reason":"r","document":{}}\n' * 2], JSON_WORDS),
    "packed-log": Target(
        packed_log, lambda: [pack(lines) for pack in packers().values() for lines in _logs("packet")[:2]], PACKED_WORDS, 1500
    ),
    "capture": Target(capture, _captures, PACKED_WORDS, 1500),
    "verdict-line": Target(
        verdict_line, lambda: [b"C1|10.0.0.1|fe80::1%a|tcp|title|why", b"-|-|-|-|-|-"], (b"|", b"-", b"\\x09", b"\t", b"\n"), 1500
    ),
    "verdict-file": Target(verdict_file, _verdict_seed, (b"\t", b".\n", b"\t47\t", b"9" * 5000, "²٣".encode()), 6000),
}
"""By name."""
