"""Documents: literal ECS values, hostile input, and that every field is in ECS's list or in our template with a fitting type."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from factories import MISSIONS, SENSOR, T0, alert, episode, flow, leaves, packet
from snapshot import compare

from packetclip_sensor.common import missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates
from packetclip_sensor.records import Alert, Concept, Evidence, Fired, Flow, OtherAlert
from packetclip_sensor.sinks.community_id import community_id
from packetclip_sensor.sinks.documents import ECS_VERSION, EMBEDDING, document
from packetclip_sensor.windows.window_statistics import facts

OTHER = OtherAlert(
    ts=T0, engine="Suricata", rule="2024364", name="a scan", orig_h="10.0.0.5", orig_p=1, resp_h="10.0.0.9", resp_p=2, proto="tcp"
)
DOCUMENTS = Path(__file__).parent / "documents.txt"
PARTS: dict[str, tuple[Alert, tuple[str, ...]]] = {
    "the flow row of an episode's end": (
        alert(state="close", flow=flow(service="http", community_id="1:abc"), flow_text="A flow."),
        ("packetclip.flow", "network"),
    ),
    "within the site": (alert(flow=flow(local_orig=True, local_resp=True)), ("network.direction",)),
    "out of the site": (alert(flow=flow(local_orig=True, local_resp=False)), ("network.direction",)),
    "into the site": (alert(flow=flow(local_orig=False, local_resp=True)), ("network.direction",)),
    "through the site": (alert(flow=flow(local_orig=False, local_resp=False)), ("network.direction",)),
    "Zeek does not know its networks": (alert(flow=flow(local_orig=None)), ("network",)),
    "several ports of the destination": (alert(facts={"distinct_resp_p": 14, "distinct_uid": 1}), ("source", "destination")),
    "ICMP, whose type and code are no ports": (
        alert(evidence=(Evidence(packet(proto="icmp", orig_p=8, resp_p=0), 0.1, "echo request"),), facts={"packets": 30}),
        ("source", "destination", "network"),
    ),
    "IPv6, and addresses that are none": (
        alert(episode=episode(sources=["2001:db8::5", "nonsense", "fe80::1%eth0"], destinations=["2001:db8::9"])),
        ("source", "network", "related"),
    ),
    "control characters and direction marks": (
        alert(title="a\x1b[2Jb\u202ec\n", reason="r\x00", nearest_texts=(("t\u2028", 0.5),)),
        ("message", "event.reason", "packetclip.texts"),
    ),
    "a long title": (alert(title="x" * 500), ("message",)),
    "no number, infinity and impossible times": (
        alert(ts=float("nan"), probability=float("nan"), episode=episode(first=-5.0, last=1e300)),
        ("@timestamp", "event.start", "event.end", "packetclip.probability"),
    ),
    "numpy's numbers": (
        alert(concepts=(Concept("flood", np.float32(0.5), np.int64(1)),), probability=np.float32("nan")),  # type: ignore[arg-type]
        ("packetclip.concepts", "packetclip.probability"),
    ),
    "a technique that the table lacks": (alert(technique="T9999"), ("threat",)),
}
"""Alerts, and the parts of their documents that show something of theirs."""


def test_an_alert_becomes_this_document() -> None:
    """The whole of it, value by value, as it is kept in documents.txt."""
    compare(DOCUMENTS, "a SYN flood", json.dumps(document(alert(), SENSOR), indent=2).splitlines())


@pytest.mark.parametrize("name", PARTS)
def test_what_is_special_in_an_alert_is_so_in_its_document(name: str) -> None:
    """As it is kept in documents.txt; what is not there is null."""
    one, paths = PARTS[name]
    lines = []
    for path in paths:
        value: Any = document(one, SENSOR)
        for key in path.split("."):
            value = (value or {}).get(key)
        lines.append(f"{path}: {json.dumps(value, allow_nan=False)}")
    compare(DOCUMENTS, name, lines)


def test_packets_that_suricata_saw_have_its_flow_ids_in_place_of_zeeks() -> None:
    uids = ("12", "34i", "34", "12i")
    evidence = tuple(Evidence(packet(uid=uid), 1.0 - i / 10, "") for i, uid in enumerate(uids))
    made = document(alert(evidence=evidence), SENSOR)
    assert made["suricata"] == {"eve": {"flow_id": ["12", "34"]}}
    assert "zeek" not in made
    assert made["observer"] == {"type": "sensor", "vendor": "OISF", "product": "Suricata", "name": SENSOR.name}
    both = document(alert(evidence=(*evidence, Evidence(packet(uid="CAb1c23"), 0.1, ""))), SENSOR)
    assert both["suricata"] == made["suricata"]
    assert both["zeek"]["session_id"] == "CAb1c23"
    assert both["zeek"]["notice"]["identifier"] == both["packetclip"]["episode"]["id"]


def test_many_hosts_become_an_array_capped_at_100_and_the_count_goes_on() -> None:
    spoofed = [f"198.51.{i // 250}.{i % 250}" for i in range(300)]
    made = document(alert(episode=episode(sources=spoofed, source_count=70_000, scope="destination")), SENSOR)
    assert made["source"]["ip"] == spoofed[:100]
    assert made["destination"]["ip"] == "10.0.0.9"
    assert made["related"]["ip"] == [*spoofed[:100], "10.0.0.9"]
    assert made["packetclip"]["episode"]["source_count"] == 70_000


def test_each_of_the_nine_attack_classes_has_a_technique_that_the_table_knows() -> None:
    found = {klass.name: klass.technique for mission in MISSIONS for klass in mission.classes}
    assert found == {
        "OS Scan": "T1595.001",
        "Vulnerability Scan": "T1595.002",
        "Port Scan": "T1046",
        "ICMP Flood": "T1498.001",
        "Slowloris": "T1499.002",
        "SYN Flood": "T1499.001",
        "UDP Flood": "T1498.001",
        "DNS Flood": "T1499.002",
        "Dictionary Attack": "T1110.001",
    }
    table = missions.attack_table()
    for technique in (*found.values(), *(mission.technique for mission in MISSIONS)):
        made = document(alert(technique=technique), SENSOR)["threat"]
        assert made["tactic"]["id"][0] in table["tactics"]
        assert made["technique"]["name"]
    assert MISSIONS.technique("DoS", "SYN Flood") == "T1499.001"
    assert MISSIONS.technique("DoS", "a class of another model") == "T1498"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (("tcp", "128.232.110.120", 34855, "66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("tcp", "66.35.250.204", 80, "128.232.110.120", 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("udp", "192.168.1.52", 54585, "8.8.8.8", 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (("icmp", "192.168.0.89", 8, "192.168.0.1", 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        (("icmp", "fe80::200:86ff:fe05:80da", 135, "fe80::260:97ff:fe07:69ea", 136), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
        (("icmp", "192.168.0.89", 20, "192.168.0.1", 0), "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="),
        (("unknown_transport", "10.0.0.1", 0, "10.0.0.2", 0), None),
        (("tcp", "not an address", 1, "10.0.0.2", 2), None),
        (("tcp", "10.0.0.1", 70_000, "10.0.0.2", 2), None),
    ],
)
def test_community_ids_equal_the_specifications_own(changed: tuple[Any, ...], expected: str | None) -> None:
    """The values are those of the spec's baseline files."""
    proto, orig_h, orig_p, resp_h, resp_p = changed
    made = community_id(packet(proto=proto, orig_h=orig_h, orig_p=orig_p, resp_h=resp_h, resp_p=resp_p))
    assert made == expected


ECS = json.loads((resource("mappings") / "ecs" / f"ecs-{ECS_VERSION}.json").read_text(encoding="utf-8"))
MAPPED = templates.mapped("packetclip.alert", MISSIONS)
"""Every field of our component templates with its type."""
SAME_FAMILY = {"constant_keyword": "keyword", "wildcard": "keyword", "match_only_text": "text"}
"""Types that Elasticsearch searches as one; ours is the one that every Elasticsearch has."""


def full_alerts() -> list[Alert]:
    """Alerts that together fill every field there is."""
    every_column = {
        name: 1
        for name in Flow.__struct_fields__
        if name.startswith(("orig_", "resp_", "missed", "ip_proto", "vlan", "login_", "requests", "dns_"))
    }
    every_column |= {"orig_h": "10.0.0.5", "resp_h": "10.0.0.9"} | dict.fromkeys(("syn", "ack", "fin", "rst", "psh", "urg"), 1)
    every_column |= {name: 0.5 for name in Flow.__struct_fields__ if name.endswith(("_mean", "_std"))}
    row = flow(**every_column, service="http", duration=1.5, community_id="1:a", local_orig=True)
    syn = bytes.fromhex("4500003c000040004006b1e60a0000050a0000099c4000500000000000000000a002faf0917000000204")
    window = [packet(data=syn), packet(ts=T0 + 1, n=2, is_orig=False, data=syn)]
    echo = bytes.fromhex("4500001c" + "00000000" + "40010000" + "0a000005" + "0a000009" + "0800f7ff00000000")
    ping = packet(proto="icmp", orig_p=8, resp_p=0, data=echo)
    most = {
        "facts": dict(facts(window, "pair")),
        "embedding": (0.125,) * EMBEDDING,
        "episode": episode(folded=3, connections_skipped=900),
        "evidence": (Evidence(packet(data=syn + b"PASS x"), 0.12, "PSH-ACK to port 21"),),
        "others": (Fired(OTHER, 2, T0, T0 + 1),),
    }
    return [
        alert(flow=row, flow_text="A flow.", **most),
        alert(facts=dict(facts([ping, packet(proto="icmp", ts=T0 + 1)], "destination"))),
        alert(facts={"distinct_resp_p": 1, "distinct_uid": 1}, episode=episode(connections=1)),
        alert(evidence=(Evidence(packet(uid="1397081985311353"), 0.1, "of Suricata"),)),
        *(alert(technique=technique) for technique in missions.attack_table()["techniques"]),
    ]


def fits(kind: str, value: Any) -> bool:
    """Whether Elasticsearch takes the value for the type without guessing."""
    match kind:
        case "long":
            return type(value) is int and -(2**63) <= value < 2**63
        case "double" | "float" | "dense_vector":
            return type(value) in (int, float)
        case "boolean":
            return type(value) is bool
        case "ip":
            return bool(ipaddress.ip_address(value))
        case "date":
            return bool(datetime.fromisoformat(value))
    return type(value) is str


def test_every_field_of_every_document_is_mapped_with_a_fitting_type() -> None:
    for one in full_alerts():
        assert [each for each in leaves(document(one, SENSOR)) if not fits(MAPPED.get(each[0], "none"), each[1])] == []
        assert {name for name, _ in leaves(document(one, SENSOR))} <= set(MAPPED)


def test_beyond_the_budget_only_what_is_severe_is_an_alert() -> None:
    low, high = (alert(episode=episode(mission=mission, over_budget=True, peak=0.9999)) for mission in ("Reconnaissance", "DoS"))
    held = document(low, SENSOR)
    plain = document(alert(episode=episode(mission="Reconnaissance", peak=0.9999)), SENSOR)
    assert (held["event"]["kind"], held["tags"]) == ("event", ["packetclip-over-budget"])
    assert held["event"] | {"kind": "alert"} == plain["event"]
    assert document(high, SENSOR)["event"]["kind"] == "alert"
    assert "tags" not in document(high, SENSOR)


def test_in_shadow_mode_a_document_is_marked_and_has_the_lowest_severity() -> None:
    for one in full_alerts():
        shown, plain = document(one, replace(SENSOR, shadow=True)), document(one, SENSOR)
        assert (shown.pop("tags"), shown["event"].pop("severity"), shown["event"].pop("risk_score")) == (
            ["packetclip-shadow"],
            21,
            1.0,
        )
        del plain["event"]["severity"], plain["event"]["risk_score"]
        assert shown == plain


def test_together_they_hold_every_mapped_field_but_the_servers_own() -> None:
    """So the other tests of this page look at the greatest document there can be."""
    held = {name for one in full_alerts() for name, _ in leaves(document(one, SENSOR))}
    later = {"event.ingested", "tags"}  # tags in shadow mode alone
    mapped = {name for name, kind in MAPPED.items() if kind != "nested" and not name.startswith("packetclip.analyst.")}
    assert mapped - held == later


def test_every_field_outside_our_own_namespaces_is_ecs_with_ecs_type() -> None:
    ours = {name: kind for name, kind in MAPPED.items() if not name.startswith(("packetclip.", "suricata.", "zeek."))}
    assert {name: SAME_FAMILY.get(ECS["fields"][name]["type"], ECS["fields"][name]["type"]) for name in ours} == ours


def test_values_are_those_that_ecs_allows() -> None:
    for one in full_alerts():
        for name, value in leaves(document(one, SENSOR)):
            field = ECS["fields"].get(name, {})
            assert value in field.get("allowed_values", [value]), name
    expected = ECS["fields"]["event.category"]["expected_event_types"]
    assert all("info" in expected[category] for category in ("intrusion_detection", "network"))


def test_ecs_arrays_are_arrays() -> None:
    made = document(alert(), SENSOR)
    for name, field in ECS["fields"].items():
        value: Any = made
        for part in name.split("."):
            value = value.get(part, {}) if isinstance(value, dict) else {}
        if field["type"] in ("object", "nested", "flattened"):
            continue
        assert value == {} or isinstance(value, list) == field["array"], name


def test_facts_and_flow_columns_are_mapped_whatever_the_window() -> None:
    """The names that the facts and the flow row can have are exactly the mapped ones: a new one must be added to the template."""
    mapped = {name.split(".")[2] for name in MAPPED if name.startswith("packetclip.facts.")}
    assert mapped == set(facts([packet()], "pair"))
    columns = {name.removeprefix("packetclip.flow.") for name in MAPPED if name.startswith("packetclip.flow.")}
    assert columns == {field.encode_name for field in msgspec.structs.fields(Flow)} | {"text"}


def test_templates_use_only_types_that_every_elasticsearch_has() -> None:
    known = "keyword long float double date ip nested text boolean dense_vector"
    assert set(MAPPED.values()) <= set(known.split())
