"""What an analyst does next with an alert: the capture holds the document's bytes, and what is pasted is safe to paste."""

from __future__ import annotations

import itertools
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from factories import MISSIONS, SENSOR, T0, WRONG, alert, episode, every_text, packet

from packetclip_sensor.alerts.suppression_rules import parse
from packetclip_sensor.cli.app import main
from packetclip_sensor.records import Evidence
from packetclip_sensor.sinks.documents import SensorInfo, document
from packetclip_sensor.sources.pcap import CaptureFile, times
from packetclip_sensor.view.next_steps import history
from packetclip_sensor.view.next_steps.capture import RAW_IP, capture
from packetclip_sensor.view.next_steps.queries import steps

LOGIN = bytes.fromhex("45000034000040004006000001020304050607089c40001500000001000000025018ffff00000000") + b"PASS secret\r\n"
SYN = bytes.fromhex("4500003c1c4640004006b1e60a0000050a0000099c400050000000010000000060020000000000000204")
HOSTILE = "'; $(touch owned) \" \\ \n- mission: DoS"


def packets(path: Path) -> list[tuple[float, int, bytes]]:
    """Time, length on the wire and bytes of each packet, read as a replay reads a capture."""
    file = CaptureFile(path)
    found = []
    for block in file.blocks():
        at = 0
        for time in times(file, block):
            kept, wire = struct.unpack_from("<8xII", block, at)
            found.append((time, wire, block[at + 16 : at + 16 + kept]))
            at += 16 + kept
    assert (file.link_type, file.problem) == (RAW_IP, "")
    return found


def test_the_capture_holds_the_bytes_of_the_document_masked_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    later = packet(ts=T0 + 1, data=LOGIN, size_bytes=90)
    one = document(alert(evidence=(Evidence(later, 0.5, "PASS"), Evidence(packet(data=SYN), 0.1, "\x1b a SYN"))), SENSOR)
    Path("alerts.ndjson").write_text(json.dumps(one))
    assert main(["explain", "a1", "--pcap", "evidence.pcapng"]) == 0
    assert "evidence packets -> evidence.pcapng" in capsys.readouterr().out
    login = bytes.fromhex(one["packetclip"]["evidence"][0]["data"])
    assert login.endswith(b"PASS" + bytes(9))
    assert packets(Path("evidence.pcapng")) == [(T0, 60, SYN), (T0 + 1, 90, login)]
    raw = Path("evidence.pcapng").read_bytes()
    assert b"+0.50 PASS; packet 1 of CAb1c23; 9 bytes are masked or left out" in raw
    assert b"\\x1b a SYN" in raw


def test_an_alert_without_bytes_gives_no_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alerts, out = tmp_path / "alerts.ndjson", tmp_path / "evidence.pcapng"
    alerts.write_text(json.dumps(document(alert(), SensorInfo("s", "1", missions=MISSIONS, evidence_bytes="none"))))
    assert main(["explain", "a1", "--from", str(alerts), "--pcap", str(out)]) == 2
    assert "`a1` holds no bytes of packets; `evidence_bytes: masked` keeps them" in capsys.readouterr().err
    assert not out.exists()


MANY = [f"198.51.100.{n}" for n in range(21)]


@pytest.mark.parametrize(
    ("changed", "wireshark", "rule"),
    [
        (
            {},
            "ip.addr == 10.0.0.5 && ip.addr == 10.0.0.9 && tcp.port == 80",
            "source 10.0.0.5, destination 10.0.0.9, service 80/tcp, mission DoS",
        ),
        (
            {"sources": ["2001:db8::1", "10.0.0.5"], "source_count": 2},
            "(ipv6.addr == 2001:db8::1 || ip.addr == 10.0.0.5) && ip.addr == 10.0.0.9 && tcp.port == 80",
            "source 2001:db8::1 10.0.0.5, destination 10.0.0.9, service 80/tcp, mission DoS",
        ),
        ({"sources": MANY}, "ip.addr == 10.0.0.9 && tcp.port == 80", "destination 10.0.0.9, service 80/tcp, mission DoS"),
        ({"source_count": 2}, "ip.addr == 10.0.0.9 && tcp.port == 80", "destination 10.0.0.9, service 80/tcp, mission DoS"),
        ({"ports": 2}, "ip.addr == 10.0.0.5 && ip.addr == 10.0.0.9", "source 10.0.0.5, destination 10.0.0.9, mission DoS"),
        ({"sources": MANY, "destinations": MANY}, "tcp.port == 80", ""),
    ],
)
def test_filter_and_rule_name_few_hosts_and_the_one_service(changed: dict[str, Any], wireshark: str, rule: str) -> None:
    one = document(alert(episode=episode(**changed)), SENSOR)
    found = {step.title.partition(" ")[0]: step.text for step in steps(one)}
    assert found["Wireshark"] == f"{wireshark} && frame.time_epoch >= 1760000000 && frame.time_epoch <= 1760000002"
    assert found["Zeek's"] == "zgrep -E 'CAb1c23' *.log*"
    assert found["KQL"] == f'packetclip.episode.id: ("e1") or network.community_id: ("{one["network"]["community_id"]}")'
    assert [one.words for one in parse(found.get("If", ""), "f", MISSIONS)] == [rule] * bool(rule)


def test_an_icmp_episode_has_no_port_and_suricata_has_flow_ids() -> None:
    ping = Evidence(packet(proto="icmp", orig_p=8, resp_p=0, uid="1234567890123456"), 0.1, "an echo request")
    found = [step.text for step in steps(document(alert(evidence=(ping,)), SENSOR))]
    assert ".port" not in found[0]
    assert found[2] == "zgrep -E '\"flow_id\":(1234567890123456)[,}]' eve*.json*"
    assert 'service: "icmp"' in found[3]


def test_nothing_of_a_hostile_document_leaves_its_quotes() -> None:
    whole = document(alert(), SENSOR)
    spoiled = every_text(whole, HOSTILE)
    (kql,) = (step.text for step in steps(spoiled) if step.title.startswith("KQL"))
    assert re.sub(r'"(?:[^"\\]|\\.)*"', "X", kql) == "packetclip.episode.id: (X) or network.community_id: (X)"
    assert kql.isprintable()
    assert [step.title[:9] for step in steps(spoiled)] == ["KQL for K"]
    spoiled["source"]["ip"], spoiled["destination"]["ip"] = "fe80::1%$(touch owned)", "10.0.0.9"
    texts = {step.title[:9]: step.text for step in steps(spoiled)}
    assert texts["Wireshark"] == "ip.addr == 10.0.0.9"
    assert not any("owned" in text for title, text in texts.items() if title not in ("KQL for K", "If it is "))
    assert texts["If it is "].splitlines()[1:3] == ['  destination: "10.0.0.9"', f"  mission: {json.dumps(HOSTILE)}"]


def test_a_field_of_any_type_makes_no_error(tmp_path: Path) -> None:
    whole = document(alert(), SENSOR)
    evidence = whole["packetclip"]["evidence"][0]
    places = [(whole["packetclip"], name) for name in whole["packetclip"]] + [(whole, name) for name in whole]
    for wrong, (section, name) in itertools.product(WRONG, [*places, *((evidence, name) for name in evidence)]):
        right, section[name] = section[name], wrong
        steps(whole)
        history.before(whole, [whole])
        if made := capture(whole):
            (tmp_path / "x.pcapng").write_bytes(made)
            assert len(packets(tmp_path / "x.pcapng")) == 1
        section[name] = right


def test_earlier_episodes_count_once_and_later_ones_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one(name: str, at: float, state: str = "open", **changed: Any) -> dict[str, Any]:
        klass = changed.pop("klass", "SYN Flood")
        story = episode(id=name, first=T0 + at, last=T0 + at + 1, **changed)
        return document(alert(id=name + state, state=state, ts=T0 + at, klass=klass, episode=story), SENSOR)

    documents = [
        one("e1", 0),
        one("e1", 0, "close"),
        one("e2", 60, sources=["10.0.0.7", "10.0.0.5"], source_count=2, destinations=["10.0.0.8"]),
        one("e3", 120, sources=["10.0.0.6"], klass="UDP Flood"),
        one("e4", 180),
        one("e5", 240),
    ]
    assert [tuple(seen) for seen in history.before(documents[4], documents)] == [
        ("from 10.0.0.5", 2, T0 + 61),
        ("to 10.0.0.9", 2, T0 + 121),
        ("from 10.0.0.5 to 10.0.0.9", 1, T0 + 1),
        ("SYN Flood", 2, T0 + 61),
    ]
    alerts = tmp_path / "alerts.ndjson"
    alerts.write_text("\n".join(map(json.dumps, documents)))
    assert main(["explain", "e4", "--from", str(alerts)]) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "from 10.0.0.5 in 2 earlier alerts, last 2025-10-09 08:54:21 UTC" in said
    assert "from 10.0.0.5 to 10.0.0.9 in 1 earlier alert, last 2025-10-09 08:53:21 UTC" in said
    assert main(["explain", "e1", "--from", str(alerts)]) == 0
    assert "from 10.0.0.5 not before" in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
