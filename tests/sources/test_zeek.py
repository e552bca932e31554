"""Lines to records: good ones typed and in order, bad ones in the rejects file, nothing raised."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Batch, Flow, Idle, Lines, Packet, Position
from packetclip_sensor.sources import zeek
from packetclip_sensor.sources.logfile import first_ts
from packetclip_sensor.sources.tail import finite
from packetclip_sensor.sources.zeek import DATA_BYTES

PACKET = (
    b'{"ts":1482329802.119403,"uid":"CJKFoj4bpHEhTeaRoj","id.orig_h":"10.0.4.2","id.orig_p":37612,"id.resp_h":"10.0.4.4",'
    b'"id.resp_p":20872,"proto":"udp","is_orig":true,"n":1,"len":28,"data":"RQAAHA=="}\n'
)
FLOW = (
    b'{"ts":1482329802.5,"uid":"CHhAvVGS1DHFjwGM9","id.orig_h":"fe80::1","id.orig_p":133,"id.resp_h":"ff02::2","id.resp_p":134,'
    b'"proto":"icmp","final":false,"duration":3.5,"orig_bytes":0,"ip_proto":58}\n'
)


def place(offset: int, path: str = "p.log") -> Position:
    return Position(path, 1, 2, 0, "", offset)


def block(data: bytes, log: str = "packet", offset: int = 0, path: str = "p.log") -> Lines:
    return Lines(log, data, place(offset, path), place(offset + len(data), path))


def run(blocks: Iterable[Lines | Idle], rejects: Rejects | None = None) -> tuple[list[Batch], Counters]:
    counters = Counters()
    return list(zeek.batches(blocks, rejects or Rejects(None), counters)), counters


def test_a_packet_line_becomes_a_packet() -> None:
    batches, counters = run([block(PACKET)])
    assert batches[0].packets == [
        Packet(
            1482329802.119403, "CJKFoj4bpHEhTeaRoj", "10.0.4.2", 37612, "10.0.4.4", 20872, "udp", True, 1, 28, b"\x45\x00\x00\x1c"
        )
    ]
    assert (counters.lines, counters.packets, counters.flows, counters.rejects) == (1, 1, 0, 0)


def test_connections_that_the_script_left_out_are_counted() -> None:
    more = PACKET.replace(b'"data"', b'"skipped":1200,"data"')
    batches, counters = run([block(PACKET + more)])
    assert [p.skipped for p in batches[0].packets] == [0, 1200]
    assert counters.connections_skipped == 1200


def test_a_flow_line_becomes_a_flow_and_what_is_unset_is_none_not_zero() -> None:
    flow = run([block(FLOW, "flow")])[0][0].flows[0]
    assert flow == Flow(
        ts=1482329802.5, uid="CHhAvVGS1DHFjwGM9", orig_h="fe80::1", orig_p=133, resp_h="ff02::2", resp_p=134, proto="icmp",
        final=False, duration=3.5, orig_bytes=0, ip_proto=58,
    )  # fmt: skip
    assert flow.resp_bytes is None


def test_columns_that_the_sensor_does_not_know_are_passed_over() -> None:
    line = PACKET.replace(b'"n":1', b'"id.ctx.vlan":12,"_path":"packetclip_packet","n":1')
    assert len(run([block(line)])[0][0].packets) == 1


TIMES = [(b'"2016-12-21T14:16:42.119403Z"', 1482329802.119403), (b"1482329802119", 1482329802.119)]
"""As Zeek writes them with JSON::TS_ISO8601 and JSON::TS_MILLIS, in seconds."""


@pytest.mark.parametrize(("ts", "seconds"), TIMES)
def test_times_as_iso_8601_and_as_milliseconds_are_read_and_bad_lines_among_them_rejected(
    tmp_path: Path, ts: bytes, seconds: float
) -> None:
    line, row = PACKET.replace(b"1482329802.119403", ts), FLOW.replace(b"1482329802.5", ts)
    batches, counters = run([block(line + line + PACKET), block(row, "flow")])
    assert [p.ts for p in batches[0].packets] == [seconds, seconds, 1482329802.119403]
    assert (batches[1].flows[0].ts, batches[1].flows[0].duration, counters.rejects) == (seconds, 3.5, 0)
    with Rejects(tmp_path / "rejects.ndjson") as rejects:
        batches, _ = run([block(line + b"x\n" + line)], rejects)
    assert [p.ts for p in batches[0].packets] == [seconds, seconds]
    entry = msgspec.json.decode((tmp_path / "rejects.ndjson").read_bytes())
    assert (entry["offset"], entry["line"]) == (len(line), "x")


@pytest.mark.parametrize(("ts", "seconds"), TIMES)
def test_logs_with_other_times_come_in_event_time_order(tmp_path: Path, ts: bytes, seconds: float) -> None:
    later = FLOW.replace(b"3.5,", b"0.5,").replace(b"1482329802.5", b"1482329803.5")
    (tmp_path / "packetclip_flow.log").write_bytes(later)
    (tmp_path / "packetclip_packet.log").write_bytes(PACKET.replace(b"1482329802.119403", ts))
    assert first_ts((tmp_path / "packetclip_packet.log").read_bytes(), 0, "packet") == seconds
    assert [b.log for b in finite([tmp_path]) if isinstance(b, Lines)] == ["packet", "flow"]


def test_of_a_whole_packet_only_its_first_bytes_are_kept_and_that_is_counted() -> None:
    """A line may have a megabyte, and 150,000 packets are held."""
    data = bytes(range(256)) * 40
    batches, counters = run([block(PACKET + PACKET.replace(b"RQAAHA==", b64encode(data)) + PACKET)])
    assert [len(p.data) for p in batches[0].packets] == [4, DATA_BYTES, 4]
    assert batches[0].packets[1].data == data[:DATA_BYTES]
    assert (counters.packets, counters.packets_cut, counters.rejects) == (3, 1, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "JSON is malformed: invalid character (byte 4)"),
        (b"[1,2]", "Expected `object`, got `array`"),
        (b'{"ts":1482329802.1,"uid"', "Input data was truncated"),
        (PACKET.replace(b'"uid":"CJKFoj4bpHEhTeaRoj",', b"").strip(), "Object missing required field `uid`"),
        (PACKET.replace(b'"n":1', b'"n":"1"').strip(), "Expected `int`, got `str` - at `$.n`"),
        (PACKET.replace(b"37612", b"37612.5").strip(), "Expected `int`, got `float` - at `$.id.orig_p`"),
        (PACKET.replace(b"RQAAHA==", b"RQ*AHA==").strip(), "Invalid base64 encoded string - at `$.data`"),
        (PACKET.replace(b"RQAAHA==", b"RQAAHA=").strip(), "Invalid base64 encoded string - at `$.data`"),
        (PACKET.replace(b'"n":1', b'"n":0').strip(), "Expected `int` >= 1 - at `$.n`"),
        (PACKET.replace(b"37612", b"65536").strip(), "Expected `int` <= 65535 - at `$.id.orig_p`"),
        (PACKET.replace(b"20872", b"-1").strip(), "Expected `int` >= 0 - at `$.id.resp_p`"),
        (PACKET.replace(b'"len"', b'"skipped":-1,"len"').strip(), "Expected `int` >= 0 - at `$.skipped`"),
        (PACKET.replace(b'"len":28', b'"len":-28').strip(), "Expected `int` >= 0 - at `$.len`"),
        (PACKET.replace(b"1482329802.119403", b"0.0").strip(), "Expected `float` > 0.0 - at `$.ts`"),
        (PACKET.replace(b"1482329802.119403", b"1e18").strip(), "Expected `float` < 10000000000.0 - at `$.ts`"),
        (PACKET.replace(b'"n":1', b'"n":%d' % 2**62).strip(), "Expected `int` <= 4611686018427387903 - at `$.n`"),
        (PACKET.replace(b'"len":28', b'"len":1%s' % (b"0" * 30)).strip(), "Expected `int` <= 4611686018427387903 - at `$.len`"),
        (PACKET.replace(b"1482329802.119403", b"1e999").strip(), "Number out of range - at `$.ts`"),
        (PACKET.replace(b"1482329802.119403", b'"2016-12-21 at noon"').strip(), "Expected `float`, got `str` - at `$.ts`"),
        (PACKET.replace(b"1482329802.119403", b"9999999999999999").strip(), "Expected `float` < 10000000000.0 - at `$.ts`"),
        (PACKET.replace(b"udp", b"\xff\xfe").strip(), "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (PACKET.replace(b"CJKFoj4bpHEhTeaRoj", b"C" * 257).strip(), "Expected `str` of length <= 256 - at `$.uid`"),
        (b"#fields\tts\tuid", "a TSV line where JSON was expected: has a script changed the filter of this log stream?"),
        (b"\x00" * 50, "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_a_bad_packet_line_is_rejected_with_its_place_and_reason_and_costs_no_other(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    with Rejects(tmp_path / "rejects.ndjson") as rejects:
        batches, counters = run([block(PACKET + line + b"\n" + PACKET, offset=1000)], rejects)
    assert len(batches[0].packets) == 2
    assert (counters.lines, counters.packets, counters.rejects) == (3, 2, 1)
    entry = msgspec.json.decode((tmp_path / "rejects.ndjson").read_bytes())
    assert (entry["path"], entry["offset"], entry["reason"]) == ("p.log", 1000 + len(PACKET), reason)
    assert entry["line"] == re.sub(r'("data":")[^"]*', r"\1...", line[:200].decode("utf-8", "backslashreplace"))
    assert entry["ts"] > 1.7e9


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (FLOW.replace(b'"final":false,', b"").strip(), "Object missing required field `final`"),
        (FLOW.replace(b"3.5", b"-3.5").strip(), "Expected `float` >= 0.0 - at `$.duration`"),
        (FLOW.replace(b'"duration":3.5', b'"duration":"-"').strip(), "Expected `float | null`, got `str` - at `$.duration`"),
        (FLOW.replace(b'"orig_bytes":0', b'"orig_bytes":-1').strip(), "Expected `int` >= 0 - at `$.orig_bytes`"),
        (FLOW.replace(b"134", b"99999").strip(), "Expected `int` <= 65535 - at `$.id.resp_p`"),
    ],
)
def test_a_bad_flow_line_is_rejected(tmp_path: Path, line: bytes, reason: str) -> None:
    with Rejects(tmp_path / "rejects.ndjson") as rejects:
        batches, counters = run([block(FLOW + line + b"\n", "flow")], rejects)
    assert (len(batches[0].flows), counters.flows, counters.rejects) == (1, 1, 1)
    assert msgspec.json.decode((tmp_path / "rejects.ndjson").read_bytes())["reason"] == reason


def test_nested_without_end_is_rejected_and_does_not_overflow_the_stack() -> None:
    line = PACKET.replace(b'"n":1', b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"n":1')
    _, counters = run([block(line + PACKET)])
    assert (counters.packets, counters.rejects) == (1, 1)


def test_blank_lines_and_carriage_returns_are_no_lines_of_their_own() -> None:
    data = b"\n" + PACKET.replace(b"\n", b"\r\n") + b"  \n" + PACKET
    batches, counters = run([block(data)])
    assert (len(batches[0].packets), counters.rejects) == (2, 0)
    bad = run([block(data + b"x\n")])
    assert (len(bad[0][0].packets), bad[1].rejects) == (2, 1)


def test_positions_of_every_file_stand_in_each_batch() -> None:
    a, b = block(PACKET, path="a"), block(FLOW, "flow", path="b")
    more = block(PACKET, offset=len(PACKET), path="a")
    batches, _ = run([a, b, more, Idle(), Idle(final=True)])
    assert batches[0].start == ()
    assert batches[0].end == (a.end,)
    assert set(batches[1].end) == {a.end, b.end}
    assert set(batches[2].start) == {a.end, b.end}
    assert set(batches[2].end) == {b.end, more.end}
    assert (batches[3].idle, batches[3].final, batches[3].packets) == (True, False, [])
    assert (batches[4].idle, batches[4].final) == (True, True)
    assert set(batches[4].end) == {b.end, more.end}


def test_a_renamed_file_keeps_one_position() -> None:
    a = block(PACKET, path="packetclip_packet.log")
    renamed = Lines("packet", PACKET, a.end, place(2 * len(PACKET), "packetclip_packet.1.log"))
    assert run([a, renamed])[0][-1].end == (renamed.end,)


def test_a_block_without_lines_only_moves_the_position() -> None:
    known = place(500, "old.log")
    batches, counters = run([Lines("packet", b"", known, known), block(PACKET)])
    assert len(batches) == 1
    assert batches[0].start == (known,)
    assert batches[0].end == (known, place(len(PACKET)))
    assert counters.lines == 1


def test_no_more_positions_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeek, "MAX_POSITIONS", 2)
    batches, _ = run([block(PACKET, path=name) for name in "abc"])
    assert [position.path for position in batches[-1].end] == ["b", "c"]


def test_rejects_of_the_tailer_are_counted_too(tmp_path: Path) -> None:
    log = tmp_path / "packetclip_packet.log"
    log.write_bytes(PACKET + PACKET[:50])
    rejects = Rejects(None)
    batches, counters = run(finite([log], rejects=rejects), rejects)
    assert counters.rejects == 1
    assert batches[-1].final


def test_the_rejects_file_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "state" / "rejects.ndjson"
    with Rejects(path, max_bytes=2000) as rejects:
        for i in range(100):
            rejects.add("p.log", i, "not JSON", b"x" * 500)
    assert rejects.count == 100
    assert path.stat().st_size <= 2000
    assert (tmp_path / "state" / "rejects.ndjson.1").stat().st_size <= 2000
    offsets = [msgspec.json.decode(line)["offset"] for line in path.read_bytes().splitlines()]
    assert offsets[-1] == 99
    assert sorted(file.name for file in path.parent.iterdir()) == ["rejects.ndjson", "rejects.ndjson.1"]


def test_bytes_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    with Rejects(tmp_path / "r") as rejects:
        rejects.add("p.log", 0, "not JSON", b"a\xffb" + b"c" * 500)
    assert msgspec.json.decode((tmp_path / "r").read_bytes())["line"] == "a\\xffb" + "c" * 197


def packet_at(ts: float) -> Packet:
    return Packet(ts, "C1", "192.0.2.1", 1, "192.0.2.2", 80, "tcp", True, 1, 40, b"")


def test_small_batches_of_finished_logs_are_put_together_up_to_a_size_and_a_time() -> None:
    places = [Position("packet.log", 1, 1, 0, "", offset) for offset in range(8)]
    times = [(0.0,), (1.0, 2.0), (3.0,), (4.0,), (40.0,), (41.0,)]
    parts = [Batch([packet_at(ts) for ts in held], [], (places[i],), (places[i + 1],)) for i, held in enumerate(times)]
    ended = Batch([], [], (places[6],), (places[6],), final=True)
    found = list(zeek.together([*parts, ended], packets=4, seconds=30.0))
    assert [[p.ts for p in batch.packets] for batch in found] == [[0.0, 1.0, 2.0, 3.0], [4.0], [40.0, 41.0], []]
    assert [(b.start[0].offset, b.end[0].offset) for b in found] == [(0, 3), (3, 4), (4, 6), (6, 6)]
    assert [b.final for b in found] == [False, False, False, True]


def test_a_batch_at_a_time_set_back_is_not_put_behind_others() -> None:
    found = list(zeek.together([Batch([packet_at(4000.0)], []), Batch([packet_at(400.0)], [])]))
    assert [[p.ts for p in batch.packets] for batch in found] == [[4000.0], [400.0]]
