"""Captures to logs by zeek: a stand-in shows how it is called, the real one, where there is one, that it works."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from captures import packets, pcap, pcapng, rotated, udp
from tailing import packers

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import Packet
from packetclip_sensor.sources import pcap as source
from packetclip_sensor.sources import zeek
from packetclip_sensor.sources.tail import finite

ZEEK = source.find_zeek()
T = 1700000000.0
PACKED = packers()
with_zeek = pytest.mark.skipif(ZEEK is None, reason="no zeek on PATH or in /opt/zeek/bin")


def program(folder: Path, script: str) -> Path:
    path = folder / "bin" / "zeek"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A program that keeps its arguments and its input beside itself, and leaves logs."""
    keep = 'cd_to=$(dirname "$0")\necho "$@" > $cd_to/args\ncat > $cd_to/read\n'
    return program(tmp_path, keep + 'echo "{}" > packetclip_packet.log\necho "{}" > conn.log')


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def as_zeek_reads(capture: bytes) -> bytes:
    """With the snap length that all captures get."""
    return capture[:16] + (262144).to_bytes(4, "little") + capture[20:]


@pytest.mark.parametrize("suffix", ["", *PACKED])
def test_zeek_is_run_with_fixed_seeds_on_the_unpacked_capture_and_our_logs_are_kept(
    tmp_path: Path, stand_in: Path, suffix: str
) -> None:
    capture = pcap(packets(3000))
    path = written(tmp_path, f"a.pcap{suffix}", PACKED[suffix](capture) if suffix else capture)
    assert source.logs_of(path, tmp_path / "work", stand_in) == (tmp_path / "work", "")
    assert (stand_in.parent / "args").read_text() == f"-C -D -r - {resource('zeek_scripts').absolute()}\n"
    assert (stand_in.parent / "read").read_bytes() == as_zeek_reads(capture)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["packetclip_packet.log"]


def test_captures_that_follow_each_other_are_read_as_one(tmp_path: Path, stand_in: Path) -> None:
    """A cut one among them up to the cut."""
    whole = pcap(packets(20))
    parts = rotated(whole, 5.0)
    assert len(parts) == 4
    parts[1] = parts[1][:-7]
    paths = [written(tmp_path, f"{number}.pcap", part) for number, part in enumerate(parts)]
    made = source.logs_of(paths, tmp_path / "work", stand_in)
    lost = packets(20)
    del lost[9]
    assert (stand_in.parent / "read").read_bytes() == as_zeek_reads(pcap(lost))
    assert made.problem == f"{paths[1]}: cut in the middle of packet 5"


Form = Callable[[int], bytes]
FORMS: dict[str, Form] = {
    "pcap": lambda count: pcap(packets(count)),
    "big-endian": lambda count: pcap(packets(count), order=">"),
    "nanoseconds": lambda count: pcap(packets(count), ticks=1_000_000_000),
    "pcapng": lambda count: pcapng((0, ts, frame) for ts, frame in packets(count)),
    "pcapng, big-endian": lambda count: pcapng(((0, ts, frame) for ts, frame in packets(count)), order=">"),
    "pcapng, two interfaces": lambda count: pcapng(((n % 2, ts, f) for n, (ts, f) in enumerate(packets(count))), links=(1, 1)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_capture_is_read_up_to_its_last_whole_packet_wherever_it_was_cut(tmp_path: Path, form: Form, packed: bool) -> None:
    for size in range(len(form(2)), len(form(3)) + 1, 3):
        path = written(tmp_path, "a", gzip.compress(form(3)[:size], 1) if packed else form(3)[:size])
        file = source.CaptureFile(path)
        records = b"".join(file.blocks())
        count = 3 if size == len(form(3)) else 2
        assert (file.packets, file.first, file.last, file.link_type) == (count, T, T + count - 1, 1)
        assert [*source.times(file, records)] == [T + i for i in range(count)]
        assert records.endswith(udp(count - 1))
        assert file.problem == ("cut in the middle of packet 3" if len(form(2)) < size < len(form(3)) else "")


def test_a_pcapng_is_read_as_libpcap_reads_it(tmp_path: Path) -> None:
    """In microseconds, whatever its interfaces have; several sections in one file, as `cat` makes them."""
    rows = [(n % 2, ts + 0.000_250, frame) for n, (ts, frame) in enumerate(packets(6))]
    section = pcapng(rows[:3], links=(1, 1)) + pcapng(rows[3:], links=(1, 1), order=">")
    file = source.CaptureFile(written(tmp_path, "a", section))
    records = b"".join(file.blocks())
    assert file.header + records == as_zeek_reads(pcap([(ts, frame) for _, ts, frame in rows]))


def test_packets_of_a_second_link_type_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [(n % 2, ts, frame) for n, (ts, frame) in enumerate(packets(5))]
    file = source.CaptureFile(written(tmp_path, "a", pcapng(rows, links=(189, 1)))).extent()
    assert (file.packets, file.link_type) == (2, 1)
    assert file.problem.startswith("3 packets of another link type than 1 were left out; take each interface's into a capture")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is no whole pcap or pcapng; copy it again"),
        (pcap([])[:20], "is no whole pcap or pcapng; copy it again"),
        (pcap([]), "holds no packet; give another capture"),
        (pcap(packets(1))[:-1], "holds no packet: cut in the middle of packet 1; give another capture"),
        (pcap([]) + b"\xff" * 400_000, "holds no packet: damaged after packet 0; give another capture"),
        (pcapng([]), "holds no packet; give another capture"),
        (pcapng([]) + bytes(40), "holds no packet: damaged after packet 0; give another capture"),
        (pcap(packets(1), link=189), "has link type 189, from which Zeek reads no IP; capture on an Ethernet"),
        (pcapng([(0, T, udp(1))], links=(147,)), "has link type 147, from which Zeek reads no IP; capture on an Ethernet"),
        (bytes.fromhex("04224d1864"), "is packed by lz4; unpack it: lz4 -d"),
    ],
)
def test_what_is_no_capture_with_packets_is_refused_with_the_remedy(
    tmp_path: Path, stand_in: Path, data: bytes, reason: str
) -> None:
    path = written(tmp_path, "a.pcap", data)
    with pytest.raises(LogFormatError) as told:
        source.logs_of(path, tmp_path / "work", stand_in)
    assert str(told.value).startswith(f"{path} {reason}")
    assert list((tmp_path / "work").iterdir()) == []


def test_damage_in_the_middle_ends_a_capture_there(tmp_path: Path) -> None:
    capture = pcap(packets(4)) + b"\xff" * 400_000
    file = source.CaptureFile(written(tmp_path, "a", capture)).extent()
    assert (file.packets, file.problem) == (4, "damaged after packet 4")
    packed = gzip.compress(pcap(packets(5000)), 1)
    file = source.CaptureFile(written(tmp_path, "b", packed[: len(packed) // 2])).extent()
    assert 0 < file.packets < 5000
    assert file.problem == f"gzip ends before its end mark after packet {file.packets:,}"


def test_logs_of_an_earlier_run_do_not_pass_for_new_ones(tmp_path: Path) -> None:
    path = written(tmp_path, "a.pcap", pcap(packets(1)))
    (tmp_path / "packetclip_packet.log").write_text("old")
    with pytest.raises(LogFormatError, match=r"a.pcap gave no packetclip_packet.log: Zeek saw no IP packet"):
        source.logs_of(path, tmp_path, program(tmp_path, "cat > /dev/null"))
    assert not (tmp_path / "packetclip_packet.log").exists()


def test_the_logs_of_a_killed_zeek_are_no_finished_ones(tmp_path: Path) -> None:
    """They are not where somebody looks for them, whether Zeek alone is killed or we are with it."""
    path, work = written(tmp_path, "a.pcap", pcap(packets(1))), tmp_path / "work"
    killed = program(tmp_path, 'echo "{}" > packetclip_packet.log\nls -a .. > ../../seen\nkill -9 $$')
    with pytest.raises(
        LogFormatError, match=r"zeek could not read .*a.pcap: it was ended by SIGKILL, perhaps for want of memory"
    ):
        source.logs_of(path, work, killed)
    assert "packetclip_packet.log" not in (tmp_path / "seen").read_text()
    assert list(work.iterdir()) == []


def test_without_zeek_and_suricata_the_error_says_to_give_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(source, "USUAL_ZEEK", tmp_path / "none" / "zeek")
    assert source.find_zeek() is None
    with pytest.raises(
        ConfigError,
        match=r"neither Zeek \(on PATH or in .*none\) nor Suricata 7 or later; install one of them, or give the folder",
    ):
        source.logs_of(tmp_path / "a.pcap", tmp_path)


def test_what_reads_captures_is_said(tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "USUAL_ZEEK", tmp_path / "none" / "zeek")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source.reader() is None
    suricata = tmp_path / "suricata"
    suricata.write_text("#!/bin/sh\necho 'This is Suricata version 6.0.10 RELEASE'\n")
    suricata.chmod(0o755)
    assert source.reader() is None
    suricata.write_text("#!/bin/sh\necho 'This is Suricata version 7.0.10 RELEASE'\n")
    assert source.reader() == f"Suricata 7.0.10 ({suricata}), for there is no Zeek"
    monkeypatch.setattr(source, "USUAL_ZEEK", stand_in)
    assert source.reader() == f"Zeek ({stand_in})"


def test_zeek_is_found_on_path_first_and_then_in_its_usual_place(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "USUAL_ZEEK", stand_in)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source.find_zeek() == stand_in
    other = tmp_path / "zeek"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert source.find_zeek() == other


def test_zeeks_last_line_of_error_is_passed_on_without_control_characters(tmp_path: Path) -> None:
    """Also where Zeek ends before it has read all."""
    path = written(tmp_path, "a.pcap", pcap(packets(20_000)))
    failing = program(tmp_path, "echo warning >&2\nprintf 'fatal error: \\033[31mproblem\\n' >&2\nexit 1")
    with pytest.raises(LogFormatError, match=r"zeek could not read .*a.pcap: fatal error: \\x1b\[31mproblem; is it Zeek 7"):
        source.logs_of(path, tmp_path / "work", failing)


def test_a_missing_capture_is_refused(tmp_path: Path, stand_in: Path) -> None:
    with pytest.raises(LogFormatError, match=r"none.pcap does not exist"):
        source.logs_of(tmp_path / "none.pcap", tmp_path / "work", stand_in)


def replayed(paths: list[Path], work: Path) -> tuple[list[Packet], Counters]:
    counters = Counters()
    batches = list(zeek.batches(finite([source.logs_of(paths, work).folder]), Rejects(None), counters))
    return [packet for batch in batches for packet in batch.packets], counters


@pytest.mark.zeek
@with_zeek
def test_zeek_gives_the_same_packets_and_uids_on_every_replay(tmp_path: Path) -> None:
    path = written(tmp_path, "a.pcap", pcap(packets(3)))
    texts = []
    for work in (tmp_path / "one", tmp_path / "two"):
        found, counters = replayed([path], work)
        assert [(p.ts, p.orig_h, p.orig_p, p.resp_p, p.n, p.size_bytes) for p in found] == [
            (1700000000.0, "192.0.2.1", 40000, 7, 1, 32),
            (1700000001.0, "192.0.2.1", 40001, 7, 1, 32),
            (1700000002.0, "192.0.2.1", 40002, 7, 1, 32),
        ]
        assert found[0].data[28:] == b"abcd"
        assert (counters.flows, counters.rejects) == (0, 0)  # below flow_min_packets
        texts.append((work / "packetclip_packet.log").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.zeek
@with_zeek
def test_zeek_sees_in_rotated_captures_and_in_a_pcapng_what_it_sees_in_one_capture(tmp_path: Path) -> None:
    """Of one connection, which rotation cuts in two, with uids and numbers of its packets."""
    rows = [(T + i / 2, udp(0)) for i in range(9)]
    whole = written(tmp_path, "whole.pcap", pcap(rows))
    parts = [written(tmp_path, f"{n}.pcap", part) for n, part in enumerate(rotated(pcap(rows), 2.0))]
    other = written(tmp_path, "a.pcapng", pcapng(((n % 2, *row) for n, row in enumerate(rows)), links=(1, 1)))
    expected = replayed([whole], tmp_path / "one")[0]
    assert [p.n for p in expected] == [*range(1, 10)]
    assert replayed(parts, tmp_path / "two")[0] == expected
    assert replayed([other], tmp_path / "three")[0] == expected
