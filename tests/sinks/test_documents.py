"""Documents: literal ECS values, hostile input, and that every field is in ECS's list or in our template with a fitting type."""

from __future__ import annotations

import ipaddress
import json
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from factories import MISSIONS, SENSOR, T0, alert, episode, flow, leaves, packet

from packetclip_sensor.alerts import attack
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Alert, Concept, Evidence, Flow
from packetclip_sensor.sinks.community_id import community_id
from packetclip_sensor.sinks.documents import ECS_VERSION, EMBEDDING, SensorInfo, document, printable
from packetclip_sensor.windows.window_statistics import facts


def test_a_syn_flood_becomes_this_ecs_document() -> None:
    """The whole ECS part of one document, value by value."""
    made = document(alert(), SENSOR)
    ours, zeek = made.pop("packetclip"), made.pop("zeek")
    assert made == {
        "@timestamp": "2025-10-09T08:53:21.750000Z",
        "ecs": {"version": "9.4.0"},
        "data_stream": {"type": "logs", "dataset": "packetclip.alert", "namespace": "default"},
        "event": {
            "kind": "alert",
            "category": ["intrusion_detection", "network"],
            "type": ["info"],
            "module": "packetclip",
            "provider": "packetclip",
            "dataset": "packetclip.alert",
            "id": "a1",
            "severity": 73,
            "risk_score": 57.0,
            "reason": "30 packets in 1.5 s from 10.0.0.5 to 10.0.0.9, all SYN, none answered.",
            "start": "2025-10-09T08:53:20.250000Z",
            "end": "2025-10-09T08:53:21.750000Z",
            "duration": 1_500_000_000,
        },
        "message": "SYN Flood on 10.0.0.9 from 10.0.0.5",
        "rule": {
            "id": "packetclip-dos",
            "name": "PacketCLIP::DoS",
            "category": "DoS",
            "description": "Traffic that exhausts a host, a service or a link.",
            "ruleset": "packetclip",
            "version": "2026.1",
        },
        "threat": {
            "framework": "MITRE ATT&CK",
            "tactic": {"id": ["TA0040"], "name": ["Impact"], "reference": ["https://attack.mitre.org/tactics/TA0040/"]},
            "technique": {
                "id": ["T1499"],
                "name": ["Endpoint Denial of Service"],
                "reference": ["https://attack.mitre.org/techniques/T1499/"],
                "subtechnique": {
                    "id": ["T1499.001"],
                    "name": ["OS Exhaustion Flood"],
                    "reference": ["https://attack.mitre.org/techniques/T1499/001/"],
                },
            },
        },
        "observer": {
            "type": "sensor",
            "vendor": "PacketCLIP",
            "product": "packetclip-sensor",
            "version": "0.1.0",
            "name": "sensor-1",
        },
        "source": {"ip": "10.0.0.5"},
        "destination": {"ip": "10.0.0.9", "port": 80},
        "network": {"transport": "tcp", "type": "ipv4", "community_id": "1:BYHCOQyqElEYLLe1hWLA4K1LWHU="},
        "related": {"ip": ["10.0.0.5", "10.0.0.9"]},
    }
    assert zeek == {
        "session_id": "CAb1c23",
        "notice": {
            "note": "PacketCLIP::DoS",
            "msg": "SYN Flood on 10.0.0.9 from 10.0.0.5",
            "sub": "30 packets in 1.5 s from 10.0.0.5 to 10.0.0.9, all SYN, none answered.",
            "n": 45,
            "identifier": "e1",
            "peer_name": "sensor-1",
        },
    }
    assert ours == {
        "mission": "DoS",
        "class": "SYN Flood",
        "probability": 0.97,
        "missions": {"benign": 0.01, "dos": 0.97, "reconnaissance": 0.015, "brute_force": 0.005},
        "classes": [
            {"name": "SYN Flood", "probability": 0.8},
            {"name": "UDP Flood", "probability": 0.15},
            {"name": "Benign", "probability": 0.05},
        ],
        "episode": {
            "id": "e1",
            "state": "open",
            "first": "2025-10-09T08:53:20.250000Z",
            "last": "2025-10-09T08:53:21.750000Z",
            "verdicts": 2,
            "packets": 45,
            "scope": "pair",
            "source_count": 1,
            "destination_count": 1,
            "peak": 0.97,
        },
        "concept_names": ["flood"],
        "concepts": [
            {"name": "flood", "weight": 0.41, "level": 1, "graph": "DoS"},
            {"name": "handshake", "weight": -0.02, "level": 2, "graph": "DoS"},
        ],
        "graphs": {"dos": 3.5, "reconnaissance": -0.25, "brute_force": 0.5},
        "paths": [{"nodes": ["sensor", "flood", "exhaustion", "embedding"], "share": 0.62, "graph": "DoS"}],
        "evidence": [
            {
                "uid": "CAb1c23",
                "n": 1,
                "ts": "2025-10-09T08:53:20.250000Z",
                "weight": 0.12,
                "reason": "SYN to port 80, the first packet of its connection",
                "orig_h": "10.0.0.5",
                "orig_p": 40000,
                "resp_h": "10.0.0.9",
                "resp_p": 80,
                "proto": "tcp",
                "is_orig": True,
                "size_bytes": 60,
                "data": "4500003c",
            }
        ],
        "texts": [{"text": "A host sends many SYN packets and never completes the handshake.", "cosine": 0.71}],
        "facts": {
            "packets": 30,
            "duration_s": 1.5,
            "distinct_resp_p": 1,
            "distinct_uid": 30,
            "rate_pps": 19.333,
            "proto": "tcp",
        },
        "model": {"version": "2026.1"},
    }


def test_the_flow_row_keeps_zeeks_names_and_leaves_out_what_is_unset() -> None:
    made = document(alert(state="close", flow=flow(service="http", community_id="1:abc"), flow_text="A flow."), SENSOR)
    assert made["packetclip"]["flow"] == {
        "text": "A flow.",
        "id": {"orig_h": "10.0.0.5", "orig_p": 40000, "resp_h": "10.0.0.9", "resp_p": 80},
        "ts": "2025-10-09T08:53:20.250000Z",
        "uid": "CAb1c23",
        "proto": "tcp",
        "final": True,
        "service": "http",
        "conn_state": "S0",
        "local_orig": False,
        "local_resp": True,
        "history": "S",
        "community_id": "1:abc",
        "orig_pkts": 1,
        "orig_ip_bytes": 60,
        "syn": 1,
        "ack": 0,
    }
    assert made["network"]["protocol"] == "http"
    assert made["network"]["community_id"] == ["1:abc", "1:BYHCOQyqElEYLLe1hWLA4K1LWHU="]


@pytest.mark.parametrize(
    ("local_orig", "local_resp", "direction"),
    [(True, True, "internal"), (True, False, "outbound"), (False, True, "inbound"), (False, False, "external")],
)
def test_direction_follows_zeeks_local_networks(local_orig: bool, local_resp: bool, direction: str) -> None:
    made = document(alert(flow=flow(local_orig=local_orig, local_resp=local_resp)), SENSOR)
    assert made["network"]["direction"] == direction


def test_direction_is_absent_where_zeek_does_not_know_its_networks() -> None:
    assert "direction" not in document(alert(flow=flow(local_orig=None)), SENSOR)["network"]


def test_many_hosts_become_an_array_capped_at_100_and_the_count_goes_on() -> None:
    spoofed = [f"198.51.{i // 250}.{i % 250}" for i in range(300)]
    made = document(alert(episode=episode(sources=spoofed, source_count=70_000, scope="destination")), SENSOR)
    assert made["source"]["ip"] == spoofed[:100]
    assert made["destination"]["ip"] == "10.0.0.9"
    assert made["related"]["ip"] == [*spoofed[:100], "10.0.0.9"]
    assert made["packetclip"]["episode"]["source_count"] == 70_000


def test_no_port_is_named_where_the_window_knows_several() -> None:
    made = document(alert(facts={"distinct_resp_p": 14, "distinct_uid": 1}), SENSOR)
    assert "port" not in made["destination"]
    assert made["source"]["port"] == 40000


def test_icmp_type_and_code_are_not_ports() -> None:
    ping = packet(proto="icmp", orig_p=8, resp_p=0)
    made = document(alert(evidence=(Evidence(ping, 0.1, "echo request"),), facts={"packets": 30}), SENSOR)
    assert made["source"] == {"ip": "10.0.0.5"}
    assert made["destination"] == {"ip": "10.0.0.9"}
    assert made["network"]["transport"] == "icmp"


def test_ipv6_and_an_address_that_is_none() -> None:
    made = document(
        alert(episode=episode(sources=["2001:db8::5", "nonsense", "fe80::1%eth0"], destinations=["2001:db8::9"])), SENSOR
    )
    assert made["source"]["ip"] == "2001:db8::5"
    assert made["network"]["type"] == "ipv6"


def test_control_characters_and_direction_marks_are_escaped_and_long_texts_cut() -> None:
    made = document(alert(title="a\x1b[2Jb\u202ec\n" + "x" * 500, reason="r\x00", nearest_texts=(("t\u2028", 0.5),)), SENSOR)
    assert made["message"].startswith("a\\x1b[2Jb\\u202ec\\nxxx")
    assert len(made["message"]) == 160
    assert made["message"].endswith("…")
    assert made["event"]["reason"] == "r\\x00"
    assert made["packetclip"]["texts"] == [{"text": "t\\u2028", "cosine": 0.5}]


def test_lone_surrogates_do_not_break_the_encoding() -> None:
    assert json.dumps(printable("\ud800"), ensure_ascii=False).encode() == b'"\\\\ud800"'


def test_nan_infinity_and_impossible_times_do_not_reach_the_document() -> None:
    made = document(alert(ts=float("nan"), probability=float("nan"), episode=episode(first=-5.0, last=1e300)), SENSOR)
    assert made["@timestamp"] == "1970-01-01T00:00:00.000000Z"
    assert made["event"]["end"] == "9999-12-31T23:59:59.000000Z"
    assert "probability" not in made["packetclip"]
    json.dumps(made, allow_nan=False)


def test_numpy_numbers_become_plain_ones() -> None:
    concepts = (Concept("flood", np.float32(0.5), np.int64(1)),)  # type: ignore[arg-type]
    made = document(alert(concepts=concepts, probability=np.float32("nan")), SENSOR)["packetclip"]
    assert msgspec.json.encode(made["concepts"]) == b'[{"name":"flood","weight":0.5,"level":1}]'
    assert "probability" not in made


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
    table = attack.attack_table()
    for technique in (*found.values(), *(mission.technique for mission in MISSIONS)):
        made = document(alert(technique=technique), SENSOR)["threat"]
        assert made["tactic"]["id"][0] in table["tactics"]
        assert made["technique"]["name"]
    assert MISSIONS.technique("DoS", "SYN Flood") == "T1499.001"
    assert MISSIONS.technique("DoS", "a class of another model") == "T1498"


def test_a_technique_that_the_table_lacks_stands_without_name() -> None:
    made = document(alert(technique="T9999"), SENSOR)["threat"]
    assert made == {
        "framework": "MITRE ATT&CK",
        "technique": {"id": ["T9999"], "reference": ["https://attack.mitre.org/techniques/T9999/"]},
    }


@pytest.mark.parametrize("namespace", ["", "a-b", "Prod", "a b", "x" * 101])
def test_a_namespace_that_elasticsearch_refuses_is_refused_at_start(namespace: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 100 lower-case"):
        SensorInfo(name="s", version="1", namespace=namespace)


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
        name: 1 for name in Flow.__struct_fields__ if name.startswith(("orig_", "resp_", "missed", "ip_proto", "vlan"))
    }
    every_column |= {"orig_h": "10.0.0.5", "resp_h": "10.0.0.9"} | dict.fromkeys(("syn", "ack", "fin", "rst", "psh", "urg"), 1)
    every_column |= {name: 0.5 for name in Flow.__struct_fields__ if name.endswith(("_mean", "_std"))}
    row = flow(**every_column, service="http", duration=1.5, community_id="1:a", local_orig=True)
    syn = bytes.fromhex("4500003c000040004006b1e60a0000050a0000099c4000500000000000000000a002faf0917000000204")
    window = [packet(data=syn), packet(ts=T0 + 1, n=2, is_orig=False, data=syn)]
    ping = packet(
        proto="icmp",
        orig_p=8,
        resp_p=0,
        data=bytes.fromhex("4500001c" + "00000000" + "40010000" + "0a000005" + "0a000009" + "0800"),
    )
    return [
        alert(
            flow=row,
            flow_text="A flow.",
            facts=dict(facts(window, "pair")),
            embedding=(0.125,) * EMBEDDING,
            episode=episode(folded=3),
        ),
        alert(facts=dict(facts([ping, packet(proto="icmp", ts=T0 + 1)], "destination"))),
        alert(facts={"distinct_resp_p": 1, "distinct_uid": 1}),
        *(alert(technique=technique) for technique in attack.attack_table()["techniques"]),
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
        wrong = [(name, value) for name, value in leaves(document(one, SENSOR)) if not fits(MAPPED.get(name, "none"), value)]
        assert wrong == []
        assert {name for name, _ in leaves(document(one, SENSOR))} <= set(MAPPED)


def test_together_they_hold_every_mapped_field_but_the_servers_own() -> None:
    """So the other tests of this page look at the greatest document there can be."""
    held = {name for one in full_alerts() for name, _ in leaves(document(one, SENSOR))}
    later = {"event.ingested"}
    assert {name for name, kind in MAPPED.items() if kind != "nested"} - held == later


def test_every_field_outside_our_own_namespaces_is_ecs_with_ecs_type() -> None:
    ours = {name: kind for name, kind in MAPPED.items() if not name.startswith(("packetclip.", "zeek."))}
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


def test_packetclip_refuses_what_is_not_mapped() -> None:
    properties = templates.load("component")["logs-packetclip.alert@packetclip"]["template"]["mappings"]["properties"]
    assert properties["packetclip"]["dynamic"] == "strict"


def test_templates_use_only_types_that_every_elasticsearch_has() -> None:
    assert set(MAPPED.values()) <= {
        "keyword",
        "long",
        "float",
        "double",
        "date",
        "ip",
        "nested",
        "text",
        "boolean",
        "dense_vector",
    }


def test_time_is_the_alerts_own() -> None:
    assert document(alert(ts=T0), SENSOR)["@timestamp"] == "2025-10-09T08:53:20.250000Z"
