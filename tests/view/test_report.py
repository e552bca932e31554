"""The page made from alerts: complete, and inert whatever stands in the alerts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from factories import SENSOR, WRONG, alert, episode, every_text, flow, packet
from snapshot import compare

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Alert, Concept, Evidence
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.view import drawing, packet_fields, report

MODEL = resource("model/shipped")
REPORT = Path(__file__).with_name("report.txt")

HOSTILE = "\"'></script><script>document.title='owned'</script><img src=x onerror=alert(1)>{{ 7*7 }}</style><svg onload=alert(1)>"


def made(*alerts: Alert, title: str = "Alerts") -> str:
    return report.page([document(one, SENSOR) for one in alerts], title=title, model=MODEL)


def packed(page: str, name: str) -> Any:
    """What stands in one of the page's packed parts."""
    found = re.search(rf'<script type="text/plain" id="{name}">([A-Za-z0-9+/=]*)</script>', page)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def rows(page: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = packed(page, "index")["rows"]
    return found


def panel(page: str, at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = packed(page, "part0")[at]
    return found


def test_the_page_holds_all_of_an_explanation_and_words_to_find_it_by() -> None:
    evidence = (Evidence(packet(data=b"E" * 40), 0.12, "a SYN"),)
    page = made(alert(flow=flow(community_id="1:AbC="), flow_text="A connection of one packet.", evidence=evidence))
    assert "model 2026.1, sensor sensor-1" in page
    for name, shown in (("a row of the table", rows(page)[0]), ("its panel", panel(page))):
        compare(REPORT, name, [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in shown.items()])


def test_of_an_episode_the_newest_document_counts_whatever_the_order() -> None:
    old, new = (
        alert(reason="An older sentence."),
        alert(id="a2", ts=1_760_000_100.0, state="close", reason="The newest sentence.", episode=episode(connections=0)),
    )
    for both in ((old, new), (new, old)):
        assert [row["reason"] for row in rows(made(*both))] == ["The newest sentence."]


def test_hostile_strings_in_every_field_and_name_stay_text() -> None:
    """What a browser makes of them: tests/integration/test_report_page.py."""
    whole = document(alert(flow=flow(), flow_text="x", evidence=(Evidence(packet(), 0.1, "x"),)), SENSOR)
    spoiled = every_text(whole, HOSTILE)
    spoiled["packetclip"]["missions"] = {HOSTILE: 0.5}
    page = report.page([spoiled], title=HOSTILE, model=MODEL)
    assert page.count("<script") == page.count("</script>") == 3  # index, one part, ours
    assert not re.search("<(img|svg)", page)
    assert page.count("</style>") == 1
    assert panel(page)["technique"][2] == ""
    assert panel(page)["uids"] == [[HOSTILE, ""]]
    assert [HOSTILE, HOSTILE] in panel(page)["facts"]


def test_the_policy_allows_the_one_script_and_the_one_style_sheet_and_nothing_else() -> None:
    page = made(alert())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    parts = [re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style")]
    assert policy is not None
    script, style = (base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for part in parts if part)
    assert policy[1] == (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


@pytest.mark.parametrize(
    "name", ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", "fetch(", "import("]
)
def test_the_script_has_no_way_to_make_markup_code_or_a_request(name: str) -> None:
    assert name not in (report.TEMPLATES / "report.js").read_text(encoding="utf-8")


def test_equal_alerts_make_equal_pages() -> None:
    assert made(alert()) == made(alert())


def test_a_field_of_any_type_makes_no_error() -> None:
    whole = document(alert(), SENSOR)
    places = [("packetclip", name) for name in whole["packetclip"]] + [("", name) for name in whole]
    spoilt = []
    for n, (wrong, (section, name)) in enumerate(itertools.product(WRONG, places)):
        one = document(alert(id=f"a{n}", episode=episode(id=f"e{n}")), SENSOR)
        (one[section] if section else one)[name] = wrong
        spoilt.append(one)
    assert len(rows(report.page(spoilt, title="Alerts", model=MODEL))) == len(spoilt)


def test_many_episodes_stand_in_parts_of_fifty() -> None:
    whole = document(alert(), SENSOR)
    many = []
    for n in range(1020):
        one = msgspec.convert(msgspec.to_builtins(whole), dict[str, Any])
        one["packetclip"] = whole["packetclip"] | {"episode": whole["packetclip"]["episode"] | {"id": f"e{n}"}}
        many.append(one)
    page = report.page(many, title="Alerts", model=MODEL)
    assert len(rows(page)) == 1020
    assert len(packed(page, "part19")) == 50
    assert len(packed(page, "part20")) == 20
    assert 'id="part21"' not in page
    assert page.count("<tr>") <= report.STATIC_ROWS + 1


def test_uids_are_linked_where_asked_for_and_stay_in_their_place() -> None:
    one = document(alert(evidence=(Evidence(packet(uid="C/../x?a=b&c"), 0.1, "x"),)), SENSOR)
    page = report.page([one], title="Alerts", model=MODEL, uid_link="https://kibana.example.org/?q={uid}")
    assert panel(page)["uids"] == [["C/../x?a=b&c", "https://kibana.example.org/?q=C%2F..%2Fx%3Fa%3Db%26c"]]
    with pytest.raises(ConfigError, match="must begin with https"):
        report.page([one], title="Alerts", model=MODEL, uid_link="javascript:alert('{uid}')")


IPV4_TCP = bytes.fromhex(
    "4600003c1c464000400600001122334455667788010203049c40005000000001000000026012ffff00000000020405b4" + b"GET /".hex()
)


def test_fields_of_ipv4_and_tcp_with_options_are_named() -> None:
    found = packet_fields.fields(IPV4_TCP)
    named = {field.name: field.value for field in found}
    assert named["flags, fragment offset"] == "don't fragment, 0"
    assert named["protocol"] == "6, TCP"
    assert named["source address"] == "17.34.51.68"
    assert [(f.start, f.end, f.part) for f in found if f.name == "options"] == [(20, 24, "ip"), (44, 48, "transport")]
    assert (named["source port"], named["destination port"]) == ("40000", "80")
    assert named["flags"] == "SYN ACK"
    assert (found[-1].start, found[-1].part, found[-1].value) == (48, "payload", "5 bytes recorded")


def test_fields_of_ipv6_with_an_extension_header_and_udp_are_named() -> None:
    data = b"\x60" + bytes(5) + b"\x00\x40" + bytes(32) + b"\x11\x00" + bytes(6) + b"\x00\x35\x00\x35\x00\x0d\x00\x00" + b"hello"
    found = packet_fields.fields(data)
    assert [(f.start, f.end) for f in found if f.name == "hop-by-hop options"] == [(40, 48)]
    assert [f.name for f in found if f.part == "transport"] == ["source port", "destination port", "length", "checksum"]
    assert found[-1] == packet_fields.Field(56, 61, "payload", "payload", "5 bytes recorded")


def test_a_later_fragment_is_payload_behind_its_ip_header() -> None:
    data = bytes.fromhex("45000028000000b940060000") + bytes(8) + b"x" * 20
    assert [f.part for f in packet_fields.fields(data)][-1] == "payload"
    assert {f.part for f in packet_fields.fields(data)} == {"ip", "payload"}


@pytest.mark.parametrize("size", range(0, 70, 3))
def test_any_bytes_are_covered_by_fields_without_gap_or_overlap(size: int) -> None:
    for first in (0x00, 0x45, 0x4F, 0x60, 0xFF):
        for second in (0x00, 0x06, 0x11, 0x01, 0x2C, 0xFF):
            data = bytes([first]) + bytes([second]) * max(0, size - 1)
            ends = [0]
            for field in packet_fields.fields(data[:size]):
                assert field.start == ends[-1] < field.end
                ends.append(field.end)
            assert ends[-1] == size


def test_a_cut_field_says_so() -> None:
    assert [f.value for f in packet_fields.fields(IPV4_TCP[:27])][-1] == "cut"


def test_a_layout_puts_levels_in_columns_and_each_node_once() -> None:
    drawn = drawing.whole([["a", "b"], ["c", "d"]], [("a", "d"), ("b", "c")], ["c", "d"])
    x = {name: x for name, x, _ in drawn.nodes}
    y = {name: y for name, _, y in drawn.nodes}
    assert sorted(x) == ["a", "b", "c", "d", "embedding", "sensor"]
    assert x["sensor"] < x["a"] == x["b"] < x["c"] == x["d"] < x["embedding"] == drawing.WIDTH - drawing.MARGIN
    assert (y["a"] < y["b"]) == (y["d"] < y["c"])  # so that the two edges do not cross
    assert len(drawn.edges) == 6
    assert all(0 < at < drawn.height for at in y.values())


def test_paths_of_an_unknown_graph_are_laid_out_alone() -> None:
    drawn = drawing.of_paths([["sensor", "a", "b", "embedding"], ["sensor", "c", "embedding"]])
    assert drawn is not None
    x = {name: x for name, x, _ in drawn.nodes}
    assert x["sensor"] < x["a"] == x["c"] < x["b"] < x["embedding"]
    assert drawing.of_paths([["sensor"]]) is None


def test_every_edge_of_the_shipped_graphs_stands_in_the_page() -> None:
    graphs = packed(made(alert()), "index")["graphs"]
    assert set(graphs) == {"DoS", "Reconnaissance", "Brute Force"}
    _, _, nodes, edges = graphs["DoS"]
    assert len(nodes) == 12 + 22 + 13 + 2
    assert len(edges) == 12 + 56 + 14


@pytest.mark.parametrize(("wrong"), ["javascript:alert(1)", "T1", "T1046/../..", "T1046\n", "T١٠٤٦", ""])
def test_only_a_technique_becomes_an_address(wrong: str) -> None:
    assert drawing.technique_address(wrong) == ""
    assert drawing.technique_address("T1046") == "https://attack.mitre.org/techniques/T1046/"


def test_small_weights_have_short_bars() -> None:
    concepts = panel(made(alert(concepts=(Concept("flood", 0.025, 1), Concept("burst", -0.0125, 1)))))["concepts"]
    assert [(share, against) for _, _, share, against, *_ in concepts] == [(0.5, False), (0.25, True)]


def test_an_unknown_mission_is_shown_on_its_own_colour() -> None:
    other = document(alert(), SENSOR)
    other["packetclip"]["mission"] = "Weather"
    assert rows(report.page([other], title="Alerts", model=MODEL))[0]["slug"] == "other"
