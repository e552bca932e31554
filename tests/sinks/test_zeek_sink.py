"""The verdict file: what is told, how it is written for Zeek's ASCII reader, rotation, a full disk, and what a crash leaves."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from factories import MISSIONS, alert, episode, packet, safe, told

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config import config_file
from packetclip_sensor.errors import SinkError
from packetclip_sensor.pipeline import sink
from packetclip_sensor.records import Alert, AlertBatch, Evidence
from packetclip_sensor.sinks import zeek_notices

MANY = [f"10.0.0.{n}" for n in range(1, 31)]


def run(
    path: Path, *alerts: Alert, max_bytes: int = 1 << 20, sleep: Callable[[float], None] = lambda _: pytest.fail("slept")
) -> Counters:
    counters = Counters()
    batches = [safe(one) for one in alerts]
    assert list(zeek_notices.write(batches, path, counters, MISSIONS, max_bytes=max_bytes, sleep=sleep)) == batches
    return counters


def rows(path: Path) -> list[dict[str, str]]:
    """Lines as Zeek's reader splits them: empty ones and remarks skipped, columns by the header."""
    lines = path.read_bytes().decode().split("\n")
    names = lines[0].split("\t")[1:]
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:] if line and not line.startswith("#")]


def identifiers(path: Path) -> list[str]:
    return [row["identifier"] for row in rows(path)]


def of(name: str) -> Alert:
    return alert(id=name, episode=episode(id=name))


def grown(state: str = "update") -> Alert:
    """The episode e1 with so many sources that it counts one severity more."""
    return alert(id="a2", state=state, episode=episode(sources=MANY, source_count=30, scope="destination"))


def test_a_line_is_what_zeek_reads() -> None:
    assert zeek_notices.HEADER == (
        b"#fields\tts\tidentifier\tstate\tmission\tseverity\tprobability\tpackets\tsrc\tdst\tp\tuid\tepisode\tmsg\tsub\tend\n"
    )
    assert zeek_notices.line(alert(), "e1", 73) == (
        b"1760000001.750000\te1\topen\tDoS\t73\t0.970000\t45\t10.0.0.5\t10.0.0.9\t80/tcp\tCAb1c23\te1\t"
        b"SYN Flood on 10.0.0.9 from 10.0.0.5\tSo far, 10.0.0.5 sent 45 TCP packets in 1.5 s to 10.0.0.9; "
        b"45 connections, 30 packets a second and 2,700 bytes.\t.\n"
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain, with blanks: 100 %", "plain, with blanks: 100 %"),
        ("a\tb\nc\rd\x00e\x1b[31m\x7f", "a\\x09b\\x0ac\\x0dd\\x00e\\x1b[31m\\x7f"),
        ("\\x41 \\", "\\x5cx41 \\x5c"),
        ("-", "\\x2d"),
        ("--", "--"),
        ("#fields", "#fields"),
        ("(empty)", "(empty)"),
        ("café — 漢", "café — 漢"),
        ("", ""),
    ],
)
def test_text_is_escaped_as_zeeks_reader_undoes_it(text: str, written: str) -> None:
    assert zeek_notices.escaped(text) == written


def test_hostile_text_stays_in_its_column_and_shows_no_control_character() -> None:
    fields = zeek_notices.line(alert(title="x\ty\n\x1b[2J", reason="\udcff" + "\\" * 5000), "e1", 73).split(b"\t")
    assert len(fields) == len(zeek_notices.COLUMNS)
    assert fields[12] == rb"x\x5cty\x5cn\x5cx1b[2J"
    assert fields[14] == b".\n"


@pytest.mark.parametrize("char", ["\\", "\t", "漢", "\U0001f600", "a", "\x00"])
def test_the_longest_line_fits_a_page(char: str) -> None:
    long = zeek_notices.line(
        alert(title=char * 9999, reason=char * 9999, evidence=(Evidence(packet(uid="\\" * 9999), 1, ""),)), "e1", 73
    )
    assert 200 < len(long) < zeek_notices.PAGE_BYTES


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"episode": episode(destinations=MANY, destination_count=30)}, ("10.0.0.5", "-", "80/tcp")),
        ({"episode": episode(sources=MANY[:1], source_count=500)}, ("-", "10.0.0.9", "80/tcp")),
        ({"episode": episode(sources=["2001:DB8::5"], destinations=["fe80::1%eth0"])}, ("2001:db8::5", "-", "80/tcp")),
        ({"episode": episode(sources=["0.0.0.0"], destinations=["x\ty"])}, ("-", "-", "80/tcp")),
        ({"evidence": (Evidence(packet(proto="icmp", resp_p=0), 1, ""),)}, ("10.0.0.5", "10.0.0.9", "-")),
        ({"evidence": (Evidence(packet(proto="udp", resp_p=53), 1, ""),)}, ("10.0.0.5", "10.0.0.9", "53/udp")),
        ({"facts": {"distinct_resp_p": 2}}, ("10.0.0.5", "10.0.0.9", "-")),
        ({"evidence": ()}, ("10.0.0.5", "10.0.0.9", "-")),
    ],
)
def test_a_side_or_a_port_that_is_not_one_stays_unset(changed: dict[str, object], expected: tuple[str, str, str]) -> None:
    fields = zeek_notices.line(alert(**changed), "e1", 73).decode().split("\t")
    assert tuple(fields[7:10]) == expected


def test_an_episode_is_told_when_it_opens_and_when_its_severity_rises(tmp_path: Path) -> None:
    path = tmp_path / "new" / "verdicts.tsv"
    same = alert(id="a1b", state="update", episode=episode(packets=99))
    counters = run(path, alert(), same, grown(), grown(), same, grown("close"))
    assert [(row["identifier"], row["state"], row["severity"]) for row in rows(path)] == [
        ("e1", "open", "73"),
        ("e1-99", "update", "99"),
    ]
    assert told(counters) == {"verdicts_fed": 2}
    assert told(run(path, alert(), grown(), of("e2"))) == {"verdicts_fed": 1}  # a restart writes nothing twice
    assert identifiers(path) == ["e1", "e1-99", "e2"]


def test_beyond_the_budget_zeek_gets_only_what_is_severe(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.tsv"
    scan, flood = (episode(id=mission, mission=mission, over_budget=True, peak=0.9999) for mission in ("Reconnaissance", "DoS"))
    run(path, alert(episode=scan), alert(episode=flood))
    assert identifiers(path) == ["DoS"]


def test_no_line_crosses_a_page(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.tsv"
    run(path, *(of(f"e{n}") for n in range(100)))
    data, at = path.read_bytes(), 0
    assert len(data) > 4 * zeek_notices.PAGE_BYTES
    for text in data.split(b"\n"):
        assert at // zeek_notices.PAGE_BYTES == (at + len(text)) // zeek_notices.PAGE_BYTES
        at += len(text) + 1
    assert identifiers(path) == [f"e{n}" for n in range(100)]


def test_a_full_file_is_left_with_a_last_word_and_its_ids_are_still_known(tmp_path: Path) -> None:
    path, before = tmp_path / "verdicts.tsv", tmp_path / "verdicts.tsv.1"
    run(path, *(of(f"e{n}") for n in range(5)), max_bytes=450)
    assert [row["state"] for row in rows(before)] == ["open", "open", "moved"]
    assert rows(before)[-1] == dict.fromkeys(zeek_notices.COLUMNS, "-") | {"ts": "0", "state": "moved", "end": "."}
    assert (identifiers(before)[:-1], identifiers(path)) == (["e2", "e3"], ["e4"])
    assert told(run(path, of("e2"), of("e4"), of("e5"), max_bytes=450)) == {"verdicts_fed": 1}


def test_a_file_that_another_hand_moved_or_removed_or_cut_gets_its_last_word_and_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.tsv"
    written = zeek_notices.write(map(safe, map(of, "abcd")), path, Counters(), MISSIONS, max_bytes=1 << 20)
    next(written)
    assert identifiers(path) == ["a"]  # a batch comes back after its line is in the file
    path.rename(tmp_path / "moved")
    next(written)
    assert ([row["state"] for row in rows(tmp_path / "moved")], identifiers(path)) == (["open", "moved"], ["b"])
    length = path.stat().st_size
    os.truncate(path, 0)
    next(written)
    cut = (tmp_path / "verdicts.tsv.1").read_bytes()
    assert cut[:length] == bytes(length)  # Zeek's reader stands at `length`
    assert cut[length:].endswith(zeek_notices.MOVED)
    path.unlink()
    next(written)
    assert identifiers(path) == ["d"]


def test_what_a_crash_left_is_mended_at_the_next_start(tmp_path: Path) -> None:
    path, before = tmp_path / "verdicts.tsv", tmp_path / "verdicts.tsv.1"
    run(path, of("a"), of("b"))
    path.write_bytes(path.read_bytes()[:-9])  # half a line
    before.write_bytes(zeek_notices.HEADER + zeek_notices.line(of("z"), "z", 73))  # no last word
    assert told(run(path, of("z"), of("b"), of("c"))) == {"verdicts_fed": 2}
    lines = path.read_bytes().decode().split("\n")
    assert [line.split("\t")[1] for line in lines[1:] if line] == ["a", "b", "b", "c"]
    assert not lines[2].endswith("\t.")
    assert [row["state"] for row in rows(before)] == ["open", "moved"]


def test_an_empty_file_and_one_that_was_left_get_a_successor_and_a_number_too_long_to_read_is_passed_over(tmp_path: Path) -> None:
    """Python reads no number of more than 4,300 digits."""
    path, before = tmp_path / "verdicts.tsv", tmp_path / "verdicts.tsv.1"
    path.touch()
    run(path, of("z"))
    with path.open("ab") as file:
        file.write(b"1.0\ta\topen\tDoS\t" + b"9" * 5000 + b"\t" + b"-\t" * 6 + b"a\tmsg\tsub\t.\n")
    run(path, of("a"), max_bytes=1)
    before.replace(path)  # someone put the old one back
    assert told(run(path, of("a"), of("b"))) == {"verdicts_fed": 1}
    assert identifiers(path) == ["b"]


def test_a_full_disk_holds_the_safe_and_the_line_is_written_whole_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "verdicts.tsv"
    real, room, waits = os.write, [10, 0, 0, 1 << 20], []

    def write(fd: int, data: bytes) -> int:
        left = room[0]
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(fd, data[:left])
        room[0] -= done
        return done

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        room.pop(0)

    counters = Counters()
    said: list[str | None] = []
    batches = [safe(of("a")), safe(of("b"))]
    written = zeek_notices.write(batches, path, counters, MISSIONS, max_bytes=1 << 20, sleep=sleep, waiting=said.append)
    next(written)
    with monkeypatch.context() as patched:
        patched.setattr(zeek_notices.os, "write", write)
        next(written)
    assert waits == [5.0, 5.0, 5.0]
    assert said == [f"zeek_feedback.path {path}: No space left on device"] * 3 + [None]
    lines = path.read_bytes().decode().split("\n")
    assert lines[2] + lines[3] != lines[2]
    assert counters.verdicts_fed == 2
    written.close()
    assert told(run(path, of("a"), of("b"))) == {}


def test_what_cannot_be_written_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("ts,what\n")
    with pytest.raises(
        SinkError, match=r"foreign: does not begin as our verdicts do; move it away or set another zeek_feedback\.path"
    ):
        run(tmp_path / "foreign", of("a"))
    with pytest.raises(SinkError, match=r"foreign/x: File exists \(.*foreign\); correct the rights or the disk and start again"):
        run(tmp_path / "foreign" / "x", of("a"))
    first = zeek_notices.write([safe(of("a"))], tmp_path / "v", Counters(), MISSIONS, max_bytes=1 << 20)
    next(first)
    with pytest.raises(SinkError, match=r"v: another process writes it; stop that one"):
        run(tmp_path / "v", of("a"))


def test_the_main_sink_comes_first_and_the_feedback_is_off_by_default(tmp_path: Path) -> None:
    path = tmp_path / "feedback" / "verdicts.tsv"
    text = f"sensor_name: s\nsink: {{ndjson: {{path: {tmp_path}/a.ndjson}}}}\n"
    list(sink([safe(alert())], config_file.parse(text, "c", tmp_path), Counters(), MISSIONS))
    assert not path.parent.exists()

    settings = config_file.parse(text + "zeek_feedback: {path: feedback/verdicts.tsv}\n", "c", tmp_path)
    seen: list[tuple[bool, bool]] = []

    def safes() -> list[AlertBatch]:
        return [safe(alert(id="a9", episode=episode(id="e9")))]

    for _ in sink(safes(), settings, Counters(), MISSIONS):
        seen.append(("a9" in (tmp_path / "a.ndjson").read_text(), "e9" in path.read_text()))
    assert seen == [(True, True)]
    assert config_file.with_sink(settings, settings.sink, tmp_path).zeek_feedback.path is None
