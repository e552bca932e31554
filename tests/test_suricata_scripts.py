"""What Suricata writes with our script: Zeek's records of the same captures, whole, within the limits, whatever goes wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from suricata_run import DATA, suricata_of, unpacked

from benchmarks.suricata_records import UNKNOWN, compared, records
from packetclip_sensor.common.resources import resource
from packetclip_sensor.records import Packet
from packetclip_sensor.sources.suricata import capture
from packetclip_sensor.sources.suricata.capture import Suricata

PCAPS = Path(__file__).parent / "zeek" / "pcaps"
_spec = importlib.util.spec_from_file_location("make_pcaps", PCAPS / "make_pcaps.py")
assert _spec
assert _spec.loader
make_pcaps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_pcaps)


@pytest.fixture(params=[7, 8], ids=["7.0", "8.0"])
def suricata(request: pytest.FixtureRequest) -> Suricata:
    return suricata_of(request.param)


def test_records_are_zeeks_and_the_cause_of_every_difference_is_known(suricata: Suricata) -> None:
    """Attacks over TCP, UDP and ICMP, probes with odd flags, and every kind of benign traffic, IPv6 among it."""
    names = ("demo-b02-flash-slow", "demo-os-nmap-ports", "demo-os-nping", "demo-udp-t50", "demo-icmp-fping", "demo-port-zmap")
    found = compared([DATA / name for name in names], suricata)
    assert found.zeek == found.suricata == 12_097
    assert {item: found.equal[item] for item in ("order", "bytes", "len", "proto")} == dict.fromkeys(
        ("order", "bytes", "len", "proto"), found.zeek
    )
    assert {item: found.zeek - found.equal[item] for item in ("flow", "hosts", "is_orig", "n")} == {
        "flow": 3, "hosts": 9, "is_orig": 9, "n": 53,
    }  # fmt: skip
    assert UNKNOWN not in {why for _, why in found.causes}


def test_flows_beyond_the_limit_of_a_second_are_left_out_whole_and_counted(suricata: Suricata, tmp_path: Path) -> None:
    pcap = unpacked("demo-syn-hping", tmp_path)
    capture.run(suricata, pcap, tmp_path, MAX_NEW_FLOWS=0)
    whole = records(tmp_path / "packetclip_packet.log")
    (tmp_path / "packetclip_packet.log").unlink()
    capture.run(suricata, pcap, tmp_path)
    kept = records(tmp_path / "packetclip_packet.log")
    begun = Counter((p.resp_h, int(p.ts)) for p in kept if p.n == 1)
    assert max(begun.values()) == 500
    left_out = sum(p.n == 1 for p in whole) - sum(p.n == 1 for p in kept)
    assert left_out == sum(p.skipped for p in kept) == 665
    flows = {p.uid for p in kept if p.n == 1}
    assert {p.uid for p in kept} == flows  # of a flow that is left out no later packet comes


def test_the_first_packets_and_bytes_are_recorded_up_to_the_options(suricata: Suricata, tmp_path: Path) -> None:
    pcap = unpacked("demo-dict-patator-ftp", tmp_path)
    capture.run(suricata, pcap, tmp_path, MAX_PACKETS=3, MAX_BYTES=30)
    found = records(tmp_path / "packetclip_packet.log")
    assert {p.n for p in found if not p.total_bytes} == {1, 2, 3}
    assert max(len(p.data) for p in found) == 30
    assert len({(p.uid, p.n) for p in found}) == len(found)


def test_a_log_that_cannot_be_written_costs_suricata_nothing_and_is_told_once(suricata: Suricata, tmp_path: Path) -> None:
    pcap = unpacked("demo-dict-patator-ftp", tmp_path)
    (tmp_path / "packetclip_packet.log").mkdir()
    done = subprocess.run(capture.command(suricata, pcap, tmp_path), capture_output=True, check=True, text=True)
    told = [line for line in (done.stderr + done.stdout).splitlines() if "PacketCLIP" in line]
    assert len(told) == 1
    assert told[0].endswith("/packetclip_packet.log: Is a directory; tried again every 5 s")
    rows = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]
    assert sum(row["flow"]["pkts_toserver"] + row["flow"]["pkts_toclient"] for row in rows) == 1135  # of 1165, the others are ARP


def test_the_unit_loads_the_script_as_a_replay_does() -> None:
    text = (resource("suricata_scripts") / "packetclip-suricata.service").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines() if "ExecStart=" in line]
    for line, major in zip(lines, (7, 8), strict=True):
        assert line.split()[1:6] == [
            "-c", "/etc/packetclip/suricata/packetclip.yaml", "--af-packet=eth0", "-l", "/var/log/packetclip-suricata",
        ]  # fmt: skip
        assert line.split()[6:] == capture.loading(major, Path("/etc/packetclip/suricata"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(suricata: Suricata, tmp_path: Path) -> None:
    """A copy for this version, with the path of the program that is here."""
    file = tmp_path / "packetclip-suricata.service"
    text = (resource("suricata_scripts") / file.name).read_text(encoding="utf-8")
    if suricata.major > capture.OLDEST:
        text = text.replace("\nExecStart=", "\n# ").replace("\n# ExecStart=", "\nExecStart=")
    file.write_text(text.replace("ExecStart=/usr/bin/suricata", f"ExecStart={suricata.program}"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "packetclip" in line and "SYSTEMD_UNIT_PATH" not in line] == []


def of_capture(suricata: Suricata, pcap: Path, work: Path) -> list[Packet]:
    capture.run(suricata, pcap, work)
    return records(work / "packetclip_packet.log")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vlan", [(9001, b"one tag"), (9002, b"one tag, IPv6"), (9003, b"two tags"), (9004, b"mpls"), (9005, b"pppoe")]),
        ("cooked", [(9051, b"cooked"), (9052, b"six")]),
        ("raw", [(9061, b"raw"), (9062, b"six")]),
    ],
)
def test_the_ip_header_is_found_behind_every_link_header(
    suricata: Suricata, name: str, found: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    got = of_capture(suricata, PCAPS / f"{name}.pcap", tmp_path)
    assert [(p.resp_p, p.data[len(p.data) - len(text) :]) for p, (_, text) in zip(got, found, strict=True)] == found
    assert all(p.data[0] >> 4 in (4, 6) and len(p.data) == p.size_bytes for p in got)
    assert {(p.n, p.is_orig, p.proto) for p in got} == {(1, True, "udp")}


def test_a_host_that_talks_to_itself_on_the_loopback_link_has_two_ends(suricata: Suricata, tmp_path: Path) -> None:
    got = of_capture(suricata, PCAPS / "one_host.pcap", tmp_path)
    assert [(p.n, p.is_orig) for p in got] == [
        (1, True), (2, False), (3, True), (4, True), (5, False), (6, False), (7, True), (8, False), (9, True),
    ]  # fmt: skip
    assert {(p.orig_p, p.resp_p) for p in got} == {(40006, 9041)}


def test_of_tunnels_the_inner_packets_are_recorded(suricata: Suricata, tmp_path: Path) -> None:
    """Suricata 7.0 does not open IP in IP (protocol 4)."""
    got = of_capture(suricata, PCAPS / "tunnels.pcap", tmp_path)
    inner = [(p.orig_h, p.resp_p, p.data[28 if p.data[0] >> 4 == 4 else 48 :]) for p in got if p.orig_h != "203.0.113.1"]
    in_ip = [("192.0.2.1", 9011, b"in ip")] if suricata.major > 7 else []
    assert inner == [*in_ip, ("192.0.2.1", 9012, b"in gre"), ("192.0.2.1", 9013, b"in vxlan"), ("2001:db8::1", 9014, b"in 6in4")]


def test_a_datagram_in_fragments_is_recorded_once_and_whole(suricata: Suricata, tmp_path: Path) -> None:
    got = of_capture(suricata, PCAPS / "fragments.pcap", tmp_path)
    assert [(p.resp_p, p.n, p.size_bytes, p.data[-64:] == bytes(range(64))) for p in got] == [
        (9021, 1, 92, True),
        (9022, 1, 112, True),
    ]


def test_packets_that_a_snap_length_cut_are_not_recorded(suricata: Suricata, tmp_path: Path) -> None:
    """Suricata holds a packet that is shorter than its header says to be broken, so no flow has it."""
    whole = of_capture(suricata, PCAPS / "protocols.pcap", tmp_path)
    (tmp_path / "packetclip_packet.log").unlink()
    cut = of_capture(suricata, PCAPS / "truncated.pcap", tmp_path)
    assert len(whole) == 28
    assert {p.data for p in cut} < {p.data for p in whole}
    assert all(len(p.data) == p.size_bytes for p in cut)


def test_packets_without_a_length_that_a_network_card_was_to_cut_are_not_recorded(suricata: Suricata, tmp_path: Path) -> None:
    """TCP segmentation offload: captured on the sending host, the total length of the IP header is 0."""
    ends = (make_pcaps.V4A, make_pcaps.V4B)
    plain = make_pcaps.tcp(ends, (1400, 80), 2, (1, 0))
    offloaded = make_pcaps.tcp(ends, (1401, 80), 2, (1, 0))
    offloaded = offloaded[:2] + b"\0\0" + offloaded[4:10] + b"\0\0" + offloaded[12:]
    offloaded = offloaded[:10] + struct.pack("!H", make_pcaps.checksum(offloaded[:20])) + offloaded[12:]
    frames = map(make_pcaps.ethernet, (offloaded, plain))
    make_pcaps.write(tmp_path / "a.pcap", make_pcaps.ETHERNET, make_pcaps.spaced(frames))
    assert [p.orig_p for p in of_capture(suricata, tmp_path / "a.pcap", tmp_path)] == [1400]


def test_icmp_errors_have_a_flow_of_their_own_and_addresses_are_short(suricata: Suricata, tmp_path: Path) -> None:
    a, b = make_pcaps.V4A, make_pcaps.V4B
    asks = [make_pcaps.udp(a, b, (1300 + i, 9), b"probe") for i in range(2)]
    errors = [make_pcaps.ip4(b, a, 1, icmp_error(ask)) for ask in asks]
    six = make_pcaps.udp("2001:db8:0:0:1:0:0:1", "::1:0:0:2", (5, 6), b"six")
    frames = [asks[0], errors[0], asks[1], errors[1], six]
    make_pcaps.write(tmp_path / "a.pcap", make_pcaps.ETHERNET, make_pcaps.spaced(map(make_pcaps.ethernet, frames)))
    got = of_capture(suricata, tmp_path / "a.pcap", tmp_path)
    assert [(p.proto, p.orig_h, p.orig_p, p.resp_h, p.resp_p, p.n) for p in got] == [
        ("udp", a, 1300, b, 9, 1),
        ("icmp", b, 3, a, 3, 1),
        ("udp", a, 1301, b, 9, 1),
        ("icmp", b, 3, a, 3, 2),
        ("udp", "2001:db8::1:0:0:1", 5, "::1:0:0:2", 6, 1),
    ]
    assert got[1].uid == got[3].uid == got[0].uid + "i"


def icmp_error(about: bytes) -> bytes:
    """Port unreachable, about this packet."""
    body = struct.pack("!BBHI", 3, 3, 0, 0) + about
    return body[:2] + struct.pack("!H", make_pcaps.checksum(body)) + body[4:]


def test_nanoseconds_are_read_and_extension_headers_belong_to_the_packet(suricata: Suricata, tmp_path: Path) -> None:
    """An IPv6 packet with a hop-by-hop header: its UDP ports are found behind it, and its bytes begin with the IP header."""
    datagram = make_pcaps.udp_datagram(make_pcaps.V6A, make_pcaps.V6B, (7, 8), b"hop")
    packet = make_pcaps.ip6(make_pcaps.V6A, make_pcaps.V6B, 0, bytes([17, 0, 1, 4, 0, 0, 0, 0]) + datagram)
    frame = make_pcaps.ethernet(packet)
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    pcap = tmp_path / "a.pcap"
    pcap.write_bytes(header + struct.pack("<IIII", 1_700_000_000, 123_456_789, len(frame), len(frame)) + frame)
    (got,) = of_capture(suricata, pcap, tmp_path)
    assert (got.ts, got.orig_p, got.resp_p, got.size_bytes, got.data) == (1700000000.123456, 7, 8, len(packet), packet)


def test_the_sites_own_outputs_differ_in_nothing_but_a_flowbit(suricata: Suricata, tmp_path: Path) -> None:
    """Every event that a configuration with all usual types writes, but for flow ids, which Suricata seeds anew at each start."""
    pcap = unpacked("demo-dict-patator-ftp", tmp_path)
    kinds = ("alert", "anomaly", "dns", "flow", "ftp", "http", "ssh", "tls")
    config = tmp_path / "suricata.yaml"
    config.write_text(f"%YAML 1.1\n---\noutputs:\n  - eve-log: {{enabled: yes, metadata: yes, types: [{', '.join(kinds)}]}}\n")
    scripts = resource("suricata_scripts")
    own = 'alert tcp any any -> any any (msg:"own"; flow:established; content:"PASS"; sid:1; rev:1;)\n'
    ours = (scripts / "packetclip.rules").read_text() if suricata.major == capture.OLDEST else ""
    # On a busy machine Suricata may end a flow sooner or later than the time before, with and without our script.
    for attempt in range(5):
        found = []
        for name, rules, loading in (("without", own, []), ("with", own + ours, capture.loading(suricata.major, scripts)[2:])):
            work = tmp_path / str(attempt) / name
            work.mkdir(parents=True)
            (work / "site.rules").write_text(rules)
            command = [str(suricata.program), "-c", str(config), "-r", str(pcap), "-l", str(work), "-S", str(work / "site.rules")]
            subprocess.run([*command, "-k", "none", "--runmode", "single", *loading], check=True, capture_output=True)
            found.append(Counter(map(without_flow_id, (work / "eve.json").read_text().splitlines())))
        if found[0] == found[1]:
            break
    assert found[0] == found[1]
    assert {json.loads(event)["event_type"] for event in found[0]} >= {"alert", "dns", "flow", "ftp", "http", "ssh"}
    assert (work / "packetclip_packet.log").stat().st_size > 0


def without_flow_id(line: str) -> str:
    """An event without its flow id and our flowbit. When and why a flow's row is written is left to another thread."""
    event = json.loads(line)
    for name in ("flow_id", "parent_id"):
        event.pop(name, None)
    if event["event_type"] == "flow":
        del event["timestamp"], event["flow"]["reason"]
    bits = event.get("metadata", {}).get("flowbits", [])
    if "packetclip" in bits:
        bits.remove("packetclip")
    if event.get("metadata") in ({"flowbits": []}, {}):
        del event["metadata"]
    return json.dumps(event, sort_keys=True)
