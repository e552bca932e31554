"""The Zeek package: its logs are what the records expect and agree with independent computations; its btests pass."""

from __future__ import annotations

import base64
import gzip
import hashlib
import ipaddress
import itertools
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from benchmarks.common import DATA
from benchmarks.common import packets as recorded_packets
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.pipeline import replay
from packetclip_sensor.records import Alert, Flow, Packet
from packetclip_sensor.windows.window_statistics import headers_of

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "zeek" / "pcaps"))
import make_pcaps  # noqa: E402

PACKAGE = ROOT / "zeek_scripts"
ZEEK_TESTS = ROOT / "tests" / "zeek"
PCAPS = ZEEK_TESTS / "pcaps"
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/opt/zeek/bin"])
ZEEK = shutil.which("zeek", path=TOOLS)

EVERYTHING = ("PacketCLIP::flow_min_packets=0", "PacketCLIP::packet_statistics=T")
"""A row for each connection, with all columns."""

needs_zeek = [
    pytest.mark.zeek,
    pytest.mark.skipif(ZEEK is None, reason="no zeek on PATH or in /opt/zeek/bin; install Zeek 7.0 or newer to run its tests"),
]


def run_zeek(folder: Path, capture: str, *arguments: str) -> None:
    """Replay one of our captures through Zeek with the package; logs come to `folder`."""
    command = [ZEEK, "-C", "-D", "-r", str(PCAPS / capture), str(PACKAGE), *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)


def smokescreen(recorded: Path, out: Path, *, rate: int, pool: int) -> tuple[str, str]:
    """Write a recorded attack with a flood to its victim in the first half of each second, `rate` forged SYNs from `pool` sources
    or (0) ever new ones. Returns attacker and victim."""
    lines = msgspec.json.Decoder(Packet).decode_lines(gzip.decompress((recorded / "packetclip_packet.log.gz").read_bytes()))
    ((attacker, victim), _), *_ = Counter((p.orig_h, p.resp_h) for p in lines).most_common(1)
    frames = [(ts - make_pcaps.START, frame) for ts, _, frame in recorded_packets(recorded / "capture.pcap.gz")]
    rng, start = random.Random(15), frames[0][0]

    def forged() -> str:
        return str(ipaddress.ip_address(rng.randrange(1 << 24, 223 << 24)))

    few = [forged() for _ in range(pool)]
    for i in range(rate * int(frames[-1][0] - start + 1)):
        ends, ports = (rng.choice(few) if few else forged(), victim), (rng.randrange(1024, 65536), 80)
        syn = make_pcaps.tcp(ends, ports, make_pcaps.SYN, (rng.getrandbits(32), 0))
        frames.append((start + i // rate + i % rate / rate / 2, make_pcaps.ethernet(syn)))
    make_pcaps.write(out, make_pcaps.ETHERNET, sorted(frames))
    return attacker, victim


def packets(folder: Path) -> list[Packet]:
    return msgspec.json.Decoder(Packet).decode_lines((folder / "packetclip_packet.log").read_bytes())


def flows(folder: Path) -> list[Flow]:
    return msgspec.json.Decoder(Flow).decode_lines((folder / "packetclip_flow.log").read_bytes())


def test_package_file_names_the_script_folder_and_the_oldest_zeek() -> None:
    meta = (ROOT / "zkg.meta").read_text(encoding="utf-8")
    assert "script_dir = zeek_scripts\n" in meta
    assert "aliases = packetclip\n" in meta  # as the pages and the sensor's messages name it, whatever the clone's folder
    assert "zeek >=7.0.0\n" in meta


def test_captures_are_what_their_script_writes(tmp_path: Path) -> None:
    shutil.copy(PCAPS / "make_pcaps.py", tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "make_pcaps.py")], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.pcap")}
    assert made == {path.name: path.read_bytes() for path in PCAPS.glob("*.pcap")}
    assert len(made) == 16


class TestWithZeek:
    pytestmark = needs_zeek

    def test_btests_pass(self) -> None:
        env = {**os.environ, "PATH": TOOLS}
        btest = shutil.which("btest", path=TOOLS)
        assert btest, "btest is not installed; pip install -e .[dev] brings it"
        command = [btest, "-c", "btest.cfg", "-d", "-j", "2"]
        result = subprocess.run(command, cwd=ZEEK_TESTS, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    @pytest.mark.parametrize(("capture", "rate", "pool", "seen"), [("patator-ftp", 505, 0, 11), ("nmap-ssh", 1500, 200, 60)])
    def test_a_flood_of_forged_sources_hides_no_guesser_beside_it(
        self, tmp_path: Path, capture: str, rate: int, pool: int, seen: int
    ) -> None:
        """More forged SYNs at the beginning of each second than are logged, from ever new addresses or over and over from few."""
        guesser, victim = smokescreen(DATA / f"demo-dict-{capture}", tmp_path / "smoke.pcap", rate=rate, pool=pool)
        run_zeek(tmp_path, str(tmp_path / "smoke.pcap"))
        logged = packets(tmp_path)
        assert len({p.uid for p in logged if p.orig_h == guesser}) >= seen
        began = Counter(p.uid for p in logged)
        assert sum(p.skipped for p in logged) > 50
        assert len(began) <= 500 * 7 // 5 * (logged[-1].ts - logged[0].ts + 1)  # the limit, and two shares of a fifth
        found: list[Alert] = []
        config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=tmp_path / "alerts.ndjson")), state_dir=tmp_path)
        replay([[tmp_path]], config, on_alert=found.append)
        assert f"Dictionary attack by {guesser} against {victim}" in {alert.title for alert in found}
        flood = found[-1] if found[-1].episode.scope == "destination" else found[-2]
        assert flood.episode.mission == "DoS"
        assert flood.episode.connections_skipped > 50

    def test_what_is_kept_of_hosts_and_sources_is_bounded_and_no_count_is_lost(self, tmp_path: Path) -> None:
        """Two connections to each of 60 hosts, one of the two beyond the limit, where ten hosts and ten sources are kept."""
        frames = []
        for i in range(120):
            ends, ports = (f"203.0.113.{i + 1}", f"198.51.100.{i // 2 + 1}"), (40000 + i, 80)
            syn = make_pcaps.tcp(ends, ports, make_pcaps.SYN, (1, 0))
            frames += [
                (i / 200, make_pcaps.ethernet(syn)),
                (5 + i / 200, make_pcaps.ethernet(make_pcaps.udp(*ends, ports, b"ask"))),
            ]
        make_pcaps.write(tmp_path / "hosts.pcap", make_pcaps.ETHERNET, sorted(frames))
        (tmp_path / "bounds.zeek").write_text(
            "module PacketCLIP; redef most_rates = 10; redef most_sources = 10; "
            "event zeek_done() { print |rates| <= 70, |sources| <= 11, connections_skipped; }"
        )
        command = [ZEEK, "-C", "-D", "-r", "hosts.pcap", str(PACKAGE), "bounds.zeek", "PacketCLIP::max_new_connections=1"]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
        bounded, sources, skipped = done.stdout.strip().split(", ")
        logged = packets(tmp_path)
        assert (bounded, sources) == ("T", "T")
        assert int(skipped) == 240 - len({p.uid for p in logged}) > 50
        assert sum(p.skipped for p in logged) > 0

    def test_what_is_kept_of_requests_and_names_is_bounded(self, tmp_path: Path) -> None:
        """300 pages by long names beside one that is asked for again and again, and 300 names of one socket."""
        asked = [b"GET /%s%d HTTP/1.1\r\n\r\n" % (b"x" * 90 if i % 3 else b"same?", i) for i in range(450)]
        frames = make_pcaps.talk((42000, 80), *itertools.chain.from_iterable((request, b"") for request in asked))
        for i in range(300):
            query = struct.pack("!6H", i, 0x100, 1, 0, 0, 0) + b"\x06name%02x\x07example\0\0\x01\0\x01" % (i % 256)
            frames.append(make_pcaps.udp(make_pcaps.V4A, make_pcaps.V4B, (42001, 53), query))
        make_pcaps.write(tmp_path / "many.pcap", make_pcaps.ETHERNET, make_pcaps.spaced(map(make_pcaps.ethernet, frames)))
        (tmp_path / "bounds.zeek").write_text(
            "event connection_state_remove(c: connection) { local s = c$packetclip_counts; if ( s?$kinds ) "
            "{ print |s$kinds| <= 16; for ( k in s$kinds ) if ( |k| > 105 ) print k; } }"
        )
        command = [ZEEK, "-C", "-D", "-r", "many.pcap", str(PACKAGE), "bounds.zeek"]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
        assert done.stdout.split() == ["T"]
        web, dns = sorted((row for row in flows(tmp_path) if row.final), key=lambda row: row.orig_p)
        assert (web.requests, web.requests_unfinished) == (450, 0)
        assert 5 <= web.requests_alike <= 16  # counted anew whenever 16 other pages came between
        assert dns.dns_queries == 300
        assert dns.dns_names == pytest.approx(256, rel=0.25)

    @pytest.mark.parametrize(
        ("capture", "port", "each"),
        [("dict-patator-ftp", 2021, {1, 3}), ("dict-nmap-ssh", 22, {1, None}), ("slow-headers-tls", 443, {None})],
    )
    def test_refusals_of_recorded_attacks_are_counted_where_they_can_be_seen(
        self, tmp_path: Path, capture: str, port: int, each: set[int | None]
    ) -> None:
        """Guessed log-ins over FTP and, by the sizes of what is encrypted, SSH, where the server answered in time; of TLS
        nothing is said, not even zero."""
        (tmp_path / "attack.pcap").write_bytes(gzip.decompress((DATA / f"demo-{capture}/capture.pcap.gz").read_bytes()))
        run_zeek(tmp_path, str(tmp_path / "attack.pcap"))
        (attack,) = json.loads((DATA / f"demo-{capture}/labels.json").read_text())["intervals"]
        rows = [f for f in flows(tmp_path) if f.final and f.orig_h in attack["attacker"] and f.resp_p == port]
        assert len(rows) > 10
        assert {f.login_failures for f in rows} == {f.login_attempts for f in rows} == each
        assert sum(f.login_failures is None for f in rows) in (0, 10, len(rows))
        assert {f.requests for f in rows} == {None}

    @pytest.mark.parametrize("capture", sorted(path.name for path in PCAPS.glob("*.pcap")))
    def test_every_line_is_a_record(self, tmp_path: Path, capture: str) -> None:
        run_zeek(tmp_path, capture, *EVERYTHING)
        for packet in packets(tmp_path):
            assert packet.data[0] >> 4 == (6 if ":" in packet.orig_h else 4)
            assert 20 <= len(packet.data) <= min(128, packet.size_bytes)
        assert all(flow.final or flow.duration for flow in flows(tmp_path))

    def test_data_is_the_frame_from_the_ip_header_on_without_padding(self, tmp_path: Path) -> None:
        run_zeek(tmp_path, "protocols.pcap")
        capture, expected, at = (PCAPS / "protocols.pcap").read_bytes(), [], 24
        while at < len(capture):
            kept = struct.unpack_from("<I", capture, at + 8)[0]
            packet = capture[at + 16 + 14 : at + 16 + kept]
            length = (
                struct.unpack_from("!H", packet, 2)[0] if packet[0] >> 4 == 4 else 40 + struct.unpack_from("!H", packet, 4)[0]
            )
            expected.append((length, packet[: min(length, 128)]))
            at += 16 + kept
        assert [(p.size_bytes, p.data) for p in packets(tmp_path)] == expected
        assert len(expected) == 28

    @pytest.mark.parametrize("capture", ["protocols.pcap", "tunnels.pcap", "flipped.pcap", "one_host.pcap", "long.pcap"])
    def test_final_rows_agree_with_conn_log(self, tmp_path: Path, capture: str) -> None:
        run_zeek(tmp_path, capture, "LogAscii::use_json=T", "PacketCLIP::flow_min_packets=0")
        conn = {row["uid"]: row for row in map(json.loads, (tmp_path / "conn.log").read_text().splitlines())}
        rows = [json.loads(line) for line in (tmp_path / "packetclip_flow.log").read_text().splitlines()]
        final = {row["uid"]: row for row in rows if row["final"]}
        assert final.keys() == conn.keys()
        ours = {"final", "community_id", "vlan", "syn", "ack", "fin", "rst", "psh", "urg"}
        ours |= {"requests", "requests_unfinished", "requests_alike"}
        for uid, row in conn.items():
            row.pop("tunnel_parents", None)
            mine = {k: v for k, v in final[uid].items() if k not in ours and not k.endswith(("_mean", "_std"))}
            if "ip_proto" not in row:  # Zeek 7.0 has no such column.
                mine.pop("ip_proto")
            assert mine == row

    @pytest.mark.parametrize("capture", ["protocols.pcap", "one_host.pcap", "vlan.pcap"])
    def test_statistics_agree_with_the_packet_log(self, tmp_path: Path, capture: str) -> None:
        run_zeek(tmp_path, capture, *EVERYTHING)
        sides: dict[tuple[str, bool], list[Packet]] = defaultdict(list)
        for packet in packets(tmp_path):
            sides[packet.uid, packet.is_orig].append(packet)
        for flow in flows(tmp_path):
            for name, is_orig in (("orig", True), ("resp", False)):
                side = sides[flow.uid, is_orig]
                sizes = [p.size_bytes for p in side]
                gaps = [b.ts - a.ts for a, b in itertools.pairwise(side)]
                for field, values in (("size", sizes), ("iat", gaps)):
                    mean = statistics.fmean(values) if values else None
                    deviation = statistics.stdev(values) if len(values) > 1 else None
                    # Gaps are differences of epoch seconds, which carry about a quarter of a microsecond.
                    assert getattr(flow, f"{name}_{field}_mean") == (mean if mean is None else pytest.approx(mean, abs=1e-6))
                    assert getattr(flow, f"{name}_{field}_std") == (
                        deviation if deviation is None else pytest.approx(deviation, abs=1e-6)
                    )
            both = sides[flow.uid, True] + sides[flow.uid, False]
            flags = [p.data[33 if p.data[0] >> 4 == 4 else 53] for p in both if flow.proto == "tcp"]
            for bit, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg")):
                count = sum(f >> bit & 1 for f in flags) if flow.proto == "tcp" else None
                assert getattr(flow, name) == count

    def test_flags_behind_extension_headers_are_counted_as_the_sensor_reads_them(self, tmp_path: Path) -> None:
        """Hop-by-hop options, destination options and an authentication header before TCP, flags SYN and SYN/ACK."""
        addresses = [ipaddress.ip_address(f"2001:db8::{n}").packed for n in (1, 2)]
        chains = {
            0: bytes([6, 0, 1, 4, 0, 0, 0, 0]),
            60: bytes([6, 1, 1, 12, *bytes(12)]),
            51: bytes([6, 4, *bytes(22)]),
        }
        frames = []
        for port, (number, chain) in enumerate(chains.items(), 4001):
            for flags, ends, ports in ((2, addresses, (port, 80)), (18, addresses[::-1], (80, port))):
                segment = chain + struct.pack("!HHIIBBHHH", *ports, 7, 7, 5 << 4, flags, 8192, 0, 0)
                frames.append(
                    bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(segment), number, 64) + b"".join(ends) + segment
                )
        pcap = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        pcap += b"".join(struct.pack("<IIII", 1_700_000_000 + i, 0, len(f), len(f)) + f for i, f in enumerate(frames))
        (tmp_path / "extensions.pcap").write_bytes(pcap)
        run_zeek(tmp_path, str(tmp_path / "extensions.pcap"), *EVERYTHING)
        seen = packets(tmp_path)
        assert [head.flags for head in headers_of(seen)] == [2, 18] * 3
        assert {p.proto for p in seen} == {"tcp"}
        assert [(flow.syn, flow.ack, flow.psh) for flow in flows(tmp_path)] == [(2, 1, 0)] * 3

    def test_community_id_follows_the_specification_for_icmp_too(self, tmp_path: Path) -> None:
        run_zeek(tmp_path, "protocols.pcap", *EVERYTHING)
        found = {(flow.proto, flow.orig_h): flow for flow in flows(tmp_path)}
        assert len(found) == 6
        ports = {("icmp", 4): (8, 0), ("icmp", 6): (128, 129)}
        for flow in found.values():
            ends = [ipaddress.ip_address(flow.orig_h), ipaddress.ip_address(flow.resp_h)]
            number = {"tcp": 6, "udp": 17, "icmp": 1 if ends[0].version == 4 else 58}[flow.proto]
            assert flow.ip_proto == number
            orig_p, resp_p = ports.get((flow.proto, ends[0].version), (flow.orig_p, flow.resp_p))
            # Originators have the smaller address in this capture, so the specification's order is theirs.
            hashed = struct.pack("!H", 0) + ends[0].packed + ends[1].packed + struct.pack("!BBHH", number, 0, orig_p, resp_p)
            assert flow.community_id == "1:" + base64.b64encode(hashlib.sha1(hashed).digest()).decode()

    def test_unknown_is_left_out_and_never_zero(self, tmp_path: Path) -> None:
        run_zeek(tmp_path, "raw.pcap", *EVERYTHING)
        first = flows(tmp_path)[0]
        assert (first.duration, first.orig_bytes, first.service, first.vlan, first.syn) == (None, None, None, None, None)
        assert (first.orig_size_mean, first.orig_size_std, first.orig_iat_mean) == (31.0, None, None)
        assert first.resp_size_mean is None
        run_zeek(tmp_path, "protocols.pcap", "PacketCLIP::log_packets=F")
        assert {flow.syn for flow in flows(tmp_path)} == {None}
        assert {flow.orig_size_mean for flow in flows(tmp_path)} == {None}
