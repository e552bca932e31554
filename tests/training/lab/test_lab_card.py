"""The data card: its numbers on a small lab made for the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.lab import card

RUN = {"label": "Port Scan", "tool": "nmap -sS", "attacker": ["10.0.0.9"], "victim": ["10.0.0.2"], "start": 5.0, "end": 9.0}
LINK = {"kind": "wan", "delay_ms": 30.0, "jitter_ms": 2.0, "loss": 0.01, "reorder": 0.0, "rate_mbit": 50}


def host(name: str, ttl: int, *addresses: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "addresses": list(addresses), "ttl": ttl, "sysctls": {"net.ipv4.tcp_ecn": 0}, **more}


def line(ts: float, uid: str, one: str, other: str) -> str:
    return json.dumps({"ts": ts, "uid": uid, "id.orig_h": one, "id.resp_h": other, "len": 100, "n": 1}) + "\n"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Two captures: a scan of three packets between benign ones, and a benign one over IPv6 without logs."""
    web = host("web", 64, "10.0.0.2/24")
    scan = {"mtu": 1400, "hosts": [host("gw", 64, "10.0.0.1/24"), web, host("att", 45, "10.0.0.9/24", link=LINK)], "habits": []}
    calm = {"mtu": 1500, "hosts": [host("web", 128, "172.16.1.2/24", "fd1::2/64")], "habits": [{"name": "browse"}] * 3}
    for name, plan, runs in (("scan", scan, [RUN]), ("calm", calm, [])):
        labels = {
            "capture": name,
            "profile": "first",
            "start": 0.0,
            "end": 1800.0,
            "packets": 1000,
            "intervals": runs,
            "plan": plan,
        }
        (tmp_path / f"{name}.labels.json").write_text(json.dumps(labels | {"plan": plan}))
    lines = [line(ts, f"C{ts:.0f}", "10.0.0.9", "10.0.0.2") for ts in (6, 7, 7.1, 20)]
    (tmp_path / "logs" / "scan").mkdir(parents=True)
    text = "".join([*lines, line(7, "D", "10.0.0.3", "10.0.0.2"), line(7, "E", "fd1::3", "fd1::2")])
    (tmp_path / "logs" / "scan" / card.LOG).write_text(text)
    return tmp_path


def test_packets_and_flows_are_counted_by_the_labels_of_their_time_and_ends(lab: Path) -> None:
    calm, scan = (card.count(*found) for found in card.found(lab))
    assert calm.packets == {}
    assert scan.packets == {"Port Scan": 3, "Benign": 3}
    assert scan.flows == {"Port Scan": 2, "Benign": 3}
    assert scan.octets == {"Port Scan": 300, "Benign": 300}
    assert (scan.six, scan.classes, calm.classes) == (1, ["Port Scan"], ["Benign"])


def test_the_card_says_what_is_in_the_lab(lab: Path) -> None:
    assert card.main([str(lab), "--out", str(lab / "docs")]) == 0
    text = (lab / "docs" / "data.md").read_text()
    for told in (
        "- 2 captures, 2,000 packets recorded in 1.0 hours of traffic",
        "- 6 packets in 5 flows in Zeek's logs, 0 MB; the table counts these",
        "- IPv6: 1 captures have it, 16.7 % of the packets",
        "- links: 1 captures have hosts behind one",
        "- MTU: 1400: 1, 1500: 1",
        "- address plan: 10/8: 1, 172.16/12: 1",
        "- TTL: 33 to 64: 2, 65 to 128: 1",
        "- link: none: 2, wan: 1",
        "| Benign | 1 | 3 | 50.0 % | 3 |  |  |",
        "| Port Scan | 1 | 3 | 50.0 % | 2 | 1 | nmap -sS |",
        "| wan | 1 | 30 to 30 | 2 to 2 | 1 to 1 | 50 to 50 |",
        "number of captures with each: browse 1.",
    ):
        assert told in text
    assert (lab / "docs" / "img" / "data.png").read_bytes().startswith(b"\x89PNG")


def test_a_torn_log_is_named_with_its_line(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = lab / "logs" / "scan" / card.LOG
    log.write_text(log.read_text()[:-20])
    assert card.main([str(lab), "--out", str(lab / "docs")]) == 2
    assert f"error: {log}: line 6: " in capsys.readouterr().err
    assert not (lab / "docs").exists()


def test_a_folder_without_captures_is_named_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert card.main([str(tmp_path), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: no recorded capture; run python -m training.lab --out lab\n"
