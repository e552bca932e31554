"""The page made from alerts: complete, and inert whatever stands in the alerts."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from factories import SENSOR, alert, episode, flow, packet

from packetclip_sensor import drawing, report
from packetclip_sensor.documents import document
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Alert, Concept, Evidence

HOSTILE = "\"'><script>document.title='owned'</script><img src=x onerror=alert(1)>{{ 7*7 }}</style><svg onload=alert(1)>"
ALLOWED_ATTRIBUTES = re.compile(
    r"class|id|href|rel|charset|http-equiv|content|name|lang|open|viewBox|role|aria-label|"
    r"[xy][12]?|width|height|rx|d|stroke-width",
    re.IGNORECASE,
)


class Tags(HTMLParser):
    """Every tag with its attributes, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def made(*alerts: Alert, title: str = "Alerts") -> str:
    return report.page([document(one, SENSOR) for one in alerts], title=title)


def spoiled(value: Any) -> Any:
    """The same document with every string hostile."""
    match value:
        case dict():
            return {key: spoiled(part) for key, part in value.items()}
        case list():
            return [spoiled(part) for part in value]
        case str():
            return HOSTILE
    return value


def test_the_page_shows_all_of_an_explanation() -> None:
    page = made(
        alert(flow=flow(), flow_text="A connection of one packet.", evidence=(Evidence(packet(data=b"E" * 40), 0.12, "a SYN"),))
    )
    for part in (
        "SYN Flood on 10.0.0.9 from 10.0.0.5",
        "30 packets in 1.5 s from 10.0.0.5 to 10.0.0.9, all SYN, none answered.",
        "0.970",
        "flood",
        "+0.410",
        "-0.020",
        "sensor → flood → exhaustion → embedding",
        "A host sends many SYN packets and never completes the handshake.",
        "https://attack.mitre.org/techniques/T1499/001/",
        "rate_pps",
        "A connection of one packet.",
        "tcp 10.0.0.5:40000 → 10.0.0.9:80, packet 1 of CAb1c23, 60 bytes",
        "first 40 of 60 bytes",
        "45 45 45 45",
        "model 2026.1, sensor sensor-1",
    ):
        assert part in page


def test_of_an_episode_the_last_document_counts() -> None:
    page = made(alert(reason="An older sentence."), alert(id="a2", state="close", reason="The newest sentence."))
    assert "An older sentence." not in page
    assert "The newest sentence." in page
    assert page.count("<details") == 1


@pytest.mark.parametrize("title", ["Alerts", HOSTILE])
def test_hostile_strings_in_every_field_stay_text(title: str) -> None:
    whole = document(alert(flow=flow(), flow_text="x", evidence=(Evidence(packet(), 0.1, "x"),)), SENSOR)
    tags = Tags(report.page([spoiled(whole)], title=title)).tags
    assert {tag for tag, _ in tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "div", "b", "ul", "li", "ol", "p", "a", "br",
        "span", "table", "thead", "tbody", "tr", "th", "td", "svg", "line", "text", "rect", "path", "g", "details", "summary",
        "dl", "dt", "dd", "pre", "footer",
    }  # fmt: skip
    for tag, attributes in tags:
        assert all(ALLOWED_ATTRIBUTES.fullmatch(name) for name in attributes), (tag, attributes)
        assert re.fullmatch(r"#e\d+|", attributes.get("href") or "")


def test_field_names_can_be_hostile_too() -> None:
    one = document(alert(), SENSOR)
    one["packetclip"]["facts"] = {HOSTILE: HOSTILE}
    one["packetclip"]["missions"] = {HOSTILE: 0.5}
    page = report.page([one], title="Alerts")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_policy_allows_the_one_style_sheet_and_nothing_else() -> None:
    page = made(alert())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy is not None
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1] == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "<script" not in page


@pytest.mark.parametrize("wrong", [None, 3, "x", [], {}, [None], {"a": None}, float("nan"), 1e300, True, "9" * 400])
def test_a_field_of_any_type_makes_no_error(wrong: Any) -> None:
    for name in document(alert(), SENSOR)["packetclip"]:
        one = document(alert(), SENSOR)
        one["packetclip"][name] = wrong
        assert report.page([one], title="Alerts").startswith("<!doctype html>")
    for name in document(alert(), SENSOR):
        one = document(alert(), SENSOR)
        one[name] = wrong
        assert report.page([one], title="Alerts").startswith("<!doctype html>")


def test_five_thousand_episodes_make_a_page() -> None:
    whole = document(alert(), SENSOR)
    many = []
    for n in range(5000):
        one = msgspec.convert(msgspec.to_builtins(whole), dict[str, Any])
        one["packetclip"] = whole["packetclip"] | {"episode": whole["packetclip"]["episode"] | {"id": f"e{n}"}}
        many.append(one)
    assert report.page(many, title="Alerts").count("<details") == 5000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty: there was no alert"),
        (b"\n", "holds no alert document"),
        (b'{"a": 1}\n', "holds no alert document"),
        (b'{"packetclip": {}}\nnot json\n', ":2: not a JSON line"),
        (b"\xff\xfe\n", ":1: not a JSON line"),
    ],
)
def test_a_file_that_holds_no_alerts_is_refused_with_the_remedy(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(content)
    with pytest.raises(LogFormatError, match=expected):
        report.read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match="No such file"):
        report.read(tmp_path / "none.ndjson")


def test_hex_rows_know_the_headers_of_ipv4_tcp_with_options() -> None:
    data = bytes.fromhex("4600") + bytes(7) + b"\x06" + bytes(14) + bytes(12) + b"\x60" + bytes(11) + b"GET /"
    rows = drawing.hex_rows(data)
    parts = "".join(
        {"ip": "i", "transport": "t", "payload": "p"}[part] * len(chars) for row in rows for _, part, chars in row.runs
    )
    assert parts == "i" * 24 + "t" * 24 + "p" * 5
    assert [row.offset for row in rows] == ["0000", "0010", "0020", "0030"]
    assert rows[-1].runs == [("47 45 54 20 2f", "payload", "GET /")]
    assert rows[-1].missing == 11


def test_hex_rows_know_ipv6_with_an_extension_header_and_udp() -> None:
    data = b"\x60" + bytes(5) + b"\x00" + bytes(33) + b"\x11\x00" + bytes(6) + bytes(8) + b"hello"
    parts = [(part, len(chars)) for row in drawing.hex_rows(data) for _, part, chars in row.runs]
    assert sum(n for part, n in parts if part == "ip") == 48
    assert sum(n for part, n in parts if part == "transport") == 8
    assert sum(n for part, n in parts if part == "payload") == 5


@pytest.mark.parametrize("size", range(0, 64, 3))
def test_hex_rows_take_any_bytes(size: int) -> None:
    for first in (0x00, 0x45, 0x4F, 0x60, 0xFF):
        data = bytes([first]) * size
        assert sum(len(chars) for row in drawing.hex_rows(data) for _, _, chars in row.runs) == size


def test_a_graph_puts_each_node_once_and_the_end_last() -> None:
    paths = [
        (["sensor", "a", "b", "embedding"], 0.6),
        (["sensor", "c", "embedding"], 0.3),
        (["sensor", "a", "d", "embedding"], 0.1),
    ]
    graph = drawing.graph(paths)
    assert graph is not None
    assert sorted(node.name for node in graph.nodes) == ["a", "b", "c", "d", "embedding", "sensor"]
    x = {node.name: node.x for node in graph.nodes}
    assert x["sensor"] < x["a"] == x["c"] < x["b"] == x["d"] < x["embedding"]
    assert {edge.words for edge in graph.edges} >= {"sensor → a: 0.700", "a → b: 0.600", "c → embedding: 0.300"}
    assert drawing.graph([(["sensor"], 1.0)]) is None


def test_the_timeline_has_a_bar_per_episode_inside_its_width() -> None:
    line = drawing.timeline(
        [("DoS", 100.0, 160.0, "e1", "x"), ("Reconnaissance", 400.0, 400.0, "e2", "y")], ("DoS", "Reconnaissance")
    )
    assert [(bar.anchor, bar.lane, bar.x) for bar in line.bars] == [("e1", "DoS", 130.0), ("e2", "Reconnaissance", 980.0)]
    assert line.bars[1].width == drawing.MIN_BAR
    assert [label for _, label in line.ticks] == ["00:02", "00:03", "00:04", "00:05", "00:06"]


@pytest.mark.parametrize(("wrong"), ["javascript:alert(1)", "T1", "T1046/../..", "T1046\n", "T١٠٤٦", ""])
def test_only_a_technique_becomes_an_address(wrong: str) -> None:
    assert drawing.technique_address(wrong) == ""
    assert drawing.technique_address("T1046") == "https://attack.mitre.org/techniques/T1046/"


def test_small_weights_have_short_bars() -> None:
    page = made(alert(concepts=(Concept("flood", 0.005, 1), Concept("burst", -0.0025, 1))))
    assert '<rect class="for" width="80.0"' in page
    assert '<rect class="against" width="40.0"' in page


def test_an_unknown_mission_is_shown_on_its_own_colour() -> None:
    assert 'class="other"' in made(alert(mission="Weather", episode=episode(mission="Weather")))
