"""The plain rate rules: each alerts at its threshold and not below it, once for the same hosts; and what the command prints."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from packetclip_sensor.records import Flow, Packet
from training.data.ground_truth import from_labels
from training.evaluate.baselines import rules
from training.evaluate.baselines.rules import RuleAlert, Rules, evaluate, main

DATA = Path(__file__).parents[2] / "data"
T = 1_700_000_000.0
SYN = bytes([0x45]) + bytes(19) + bytes(12) + bytes([0x50, 2]) + bytes(6)
ACK = SYN[:33] + bytes([0x10]) + SYN[34:]


def packet(
    at: float, number: int, *, host: str = "10.0.0.2", port: int = 80, proto: str = "tcp", data: bytes = ACK, n: int = 1
) -> Packet:
    return Packet(T + at, f"C{number}", "10.0.0.1", 40000, host, port, proto, True, n, 60, data)


def flow(at: float, number: int, *, port: int = 4022, proto: str = "tcp", **more: object) -> Flow:
    ends = {"orig_h": "10.0.0.1", "orig_p": 40000, "resp_h": "10.0.0.2", "resp_p": port}
    return Flow(ts=T + at, uid=f"C{number}", proto=proto, final=True, **ends, **more)  # type: ignore[arg-type]


def said(records: Iterable[Packet | Flow]) -> list[RuleAlert]:
    made = Rules()

    def each() -> Iterator[RuleAlert]:
        for record in records:
            yield from made.packet(record) if isinstance(record, Packet) else made.flow(record)

    return list(each())


def ports(count: int) -> list[Packet | Flow]:
    return [packet(i, i, port=5000 + i) for i in range(count)]


def hosts(count: int) -> list[Packet | Flow]:
    return [packet(i, i, host=f"10.0.1.{i}", port=9) for i in range(count)]


def syns(count: int) -> list[Packet | Flow]:
    return [packet(i / 200, i, port=9, data=SYN) for i in range(count)]


def one_socket(count: int) -> list[Packet | Flow]:
    return [packet(i / 200, 0, proto="udp", port=9, n=i + 1) for i in range(count)]


def pings(count: int) -> list[Packet | Flow]:
    return [packet(i / 200, 0, proto="icmp", port=0, n=i + 1) for i in range(count)]


def logins(count: int) -> list[Packet | Flow]:
    return [flow(9 * i, i, service="ssh") for i in range(count)]


def requests(count: int) -> list[Packet | Flow]:
    return [packet(i / 2, i) for i in range(count)]


def held(count: int) -> list[Packet | Flow]:
    return [flow(i / 10, i, port=80, duration=12.0, orig_bytes=300) for i in range(count)]


@pytest.mark.parametrize(
    ("made", "least", "rule", "mission"),
    [
        (ports, 15, "ports", "Reconnaissance"),
        (hosts, 15, "hosts", "Reconnaissance"),
        (syns, 100, "SYN", "DoS"),
        (one_socket, 100, "UDP", "DoS"),
        (pings, 100, "ICMP", "DoS"),
        (logins, 6, "logins", "Brute Force"),
        (requests, 60, "requests", "Reconnaissance"),
        (held, 15, "held", "DoS"),
    ],
)
def test_a_rule_speaks_once_from_its_threshold_on(made: object, least: int, rule: str, mission: str) -> None:
    assert callable(made)
    assert not said(made(least - 1))
    (only,) = [one for one in said(made(2 * least)) if one.rule == rule]
    assert only.mission == mission
    assert "10.0.0.1" in only.hosts


def test_what_is_spread_over_a_longer_time_is_no_alert() -> None:
    assert not said(packet(5 * i, i, port=5000 + i) for i in range(100))
    assert not said(packet(i / 90, 0, proto="udp", port=9, n=i + 1) for i in range(500))
    assert not said(flow(13 * i, i, service="ssh") for i in range(50))


def test_a_refused_or_answered_packet_is_no_flood() -> None:
    answers = [Packet(T + i / 500, "C0", "10.0.0.1", 4, "10.0.0.2", 9, "udp", False, i + 1, 900, b"") for i in range(900)]
    assert not said([*answers, *(packet(i / 500, 0, n=i + 2) for i in range(900))])


def test_a_connection_that_the_packet_log_left_is_known_by_its_row() -> None:
    (one,) = said([flow(0, 0, proto="udp", port=9, duration=30.0, orig_pkts=6000)])
    assert (one.rule, one.mission) == ("UDP", "DoS")
    assert not said([flow(0, 0, proto="udp", port=9, duration=30.0, orig_pkts=2000)])


def test_the_same_hosts_are_named_again_after_ten_quiet_minutes() -> None:
    again = [packet(rules.QUIET_S + 100 + i, 900 + i, port=5000 + i) for i in range(15)]
    assert [one.rule for one in said([*ports(15), *again])] == ["ports", "ports"]


def test_a_capture_is_counted_as_the_sensor_counts_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("demo-udp-hping", "demo-b00-startup-discovery"):
        shutil.copytree(DATA / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pcap*"))
    benign, flood = (evaluate(truth) for truth in from_labels(tmp_path))
    assert (flood["label"], flood["right"], flood["classes"]) == ("UDP Flood", 1, "UDP")
    assert (benign["label"], benign["right"]) == ("Benign", 0)
    assert main(["--logs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("1 of 1 attack captures named right, mean over classes 1.00; ")
    assert printed[-1].endswith(f" false alerts in {benign['packets']:,} benign packets")


def test_a_folder_without_captures_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--logs", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no capture to judge")
