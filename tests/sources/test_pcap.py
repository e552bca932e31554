"""Captures to logs by zeek: a stand-in shows how it is called, the real one, where there is one, that it works."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.sources import pcap as source
from packetclip_sensor.sources import zeek
from packetclip_sensor.sources.tail import finite

ZEEK = source.find_zeek()


def udp(number: int) -> bytes:
    """An Ethernet frame with a UDP packet of four bytes of data, checksums left zero as by an offloading card."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, number, 0, 64, 17, 0, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    return bytes(12) + b"\x08\x00" + ip + struct.pack("!HHHH", 40000 + number, 7, 12, 0) + b"abcd"


def capture(count: int) -> bytes:
    frames = [udp(i) for i in range(count)]
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    return header + b"".join(struct.pack("<IIII", 1700000000 + i, 0, len(f), len(f)) + f for i, f in enumerate(frames))


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A program that writes down its arguments and its input's first bytes, and leaves a packet log."""
    program = tmp_path / "bin" / "zeek"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" > args\nhead -c 4 "$4" > magic\necho "{}" > packetclip_packet.log\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("packed", [False, True])
def test_zeek_is_run_with_fixed_seeds_in_the_work_folder_on_the_unpacked_capture(
    tmp_path: Path, stand_in: Path, packed: bool
) -> None:
    pcap = tmp_path / ("a.pcap.gz" if packed else "a.pcap")
    pcap.write_bytes(gzip.compress(capture(1)) if packed else capture(1))
    work = tmp_path / "work"
    assert source.logs_of(pcap, work, stand_in) == work
    plain = work / "capture.pcap" if packed else pcap
    assert (work / "args").read_text() == f"-C -D -r {plain} {resource('zeek_scripts')}\n"
    assert (work / "magic").read_bytes() == capture(1)[:4]
    assert sorted(path.name for path in work.iterdir()) == ["args", "magic", "packetclip_packet.log"]


def test_logs_of_an_earlier_run_do_not_pass_for_new_ones(tmp_path: Path) -> None:
    pcap = tmp_path / "a.pcap"
    pcap.write_bytes(capture(0))
    (tmp_path / "packetclip_packet.log").write_text("old")
    program = tmp_path / "zeek"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with pytest.raises(LogFormatError, match=r"a.pcap gave no packetclip_packet.log: Zeek saw no IP packet"):
        source.logs_of(pcap, tmp_path, program)


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


def test_zeeks_last_line_of_error_is_passed_on(tmp_path: Path) -> None:
    program = tmp_path / "zeek"
    program.write_text("#!/bin/sh\necho warning >&2\necho 'fatal error: problem with trace file' >&2\nexit 1\n")
    program.chmod(0o755)
    pcap = tmp_path / "a.pcap"
    pcap.write_bytes(capture(1))
    with pytest.raises(
        LogFormatError, match=r"zeek could not read .*a.pcap: fatal error: problem with trace file; is it a whole"
    ):
        source.logs_of(pcap, tmp_path / "work", program)


def test_a_missing_and_a_damaged_capture_are_refused(tmp_path: Path, stand_in: Path) -> None:
    with pytest.raises(LogFormatError, match=r"none.pcap does not exist"):
        source.logs_of(tmp_path / "none.pcap", tmp_path / "work", stand_in)
    cut = tmp_path / "cut.pcap.gz"
    cut.write_bytes(gzip.compress(capture(3))[:-10])
    with pytest.raises(LogFormatError, match=r"cut.pcap.gz is a damaged gzip file"):
        source.logs_of(cut, tmp_path / "work", stand_in)


@pytest.mark.zeek
@pytest.mark.skipif(ZEEK is None, reason="no zeek on PATH or in /opt/zeek/bin")
def test_zeek_gives_the_same_packets_and_uids_on_every_replay(tmp_path: Path) -> None:
    pcap = tmp_path / "a.pcap"
    pcap.write_bytes(capture(3))
    texts = []
    for work in (tmp_path / "one", tmp_path / "two"):
        counters = Counters()
        batches = list(zeek.batches(finite([source.logs_of(pcap, work)]), Rejects(None), counters))
        packets = [packet for batch in batches for packet in batch.packets]
        assert [(p.ts, p.orig_h, p.orig_p, p.resp_p, p.n, p.size_bytes) for p in packets] == [
            (1700000000.0, "192.0.2.1", 40000, 7, 1, 32),
            (1700000001.0, "192.0.2.1", 40001, 7, 1, 32),
            (1700000002.0, "192.0.2.1", 40002, 7, 1, 32),
        ]
        assert packets[0].data[28:] == b"abcd"
        assert (counters.flows, counters.rejects) == (0, 0)  # below flow_min_packets
        texts.append((work / "packetclip_packet.log").read_bytes())
    assert texts[0] == texts[1]
