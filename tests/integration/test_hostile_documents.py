"""Whatever stands in a log line: the document is stored whole, nothing is refused, nothing strange comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from elasticsearch import Elasticsearch
from factories import SENSOR, alert, episode, flow, leaves, packet, safe, told

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.records import Evidence
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.sinks.elasticsearch import write

TEXTS = (
    "<script>alert(1)</script>",
    "\x00\x1b[2J\r\n\t\u202e\u2028",
    "\ud800",
    '{"a": 1}, ]}',
    "x" * 70_000,
    "\U0001f600" * 20_000,
    "",
    "null",
    "../../etc/passwd",
)
NUMBERS = (2**70, -(2**70), 2**63 - 1, -1, 0)
FLOATS = (float("nan"), float("inf"), -1e300, 1e300, 0.0)


def spoiled(record: Any, turn: int) -> Any:
    """A log record with something hostile in every field."""
    changed: dict[str, Any] = {}
    for number, name in enumerate(record.__struct_fields__, turn):
        match getattr(record, name):
            case bool():
                continue
            case str():
                changed[name] = TEXTS[number % len(TEXTS)]
            case int():
                changed[name] = NUMBERS[number % len(NUMBERS)]
            case float():
                changed[name] = FLOATS[number % len(FLOATS)]
            case bytes():
                changed[name] = bytes(range(256)) * 40
    return msgspec.structs.replace(record, **changed)


def hostile(turn: int) -> Any:
    every_column = dict.fromkeys(("orig_bytes", "resp_bytes", "missed_bytes", "vlan", "ip_proto", "fin", "rst", "psh", "urg"), 1)
    row = flow(service="http", duration=1.5, community_id="1:a", orig_size_mean=60.0, orig_iat_std=0.5, **every_column)
    text = TEXTS[turn % len(TEXTS)]
    time = FLOATS[turn % len(FLOATS)]
    return alert(
        id=f"hostile-{turn:02}",
        ts=time,
        title=text,
        reason=text,
        flow=spoiled(row, turn),
        flow_text=text,
        evidence=tuple(Evidence(spoiled(packet(n=n), turn + n), 0.1, text) for n in range(5)),
        nearest_texts=((text, 0.5),),
        facts={"packets": NUMBERS[turn % len(NUMBERS)], "rate_pps": time, "proto": text, "view": text},
        episode=episode(sources=[text, "10.0.0.5"], destinations=[text], first=-time, last=time, scope=text),
    )


@pytest.mark.elasticsearch
def test_hostile_strings_and_numbers_in_every_field_are_stored_and_none_is_refused(
    elasticsearch_url: str, namespace: str, tmp_path: Path
) -> None:
    letters = tmp_path / "dead.ndjson"
    config = ElasticsearchConfig(hosts=[elasticsearch_url], namespace=namespace, dead_letter_path=letters)
    made = [hostile(turn) for turn in range(len(TEXTS) * len(FLOATS))]
    counters = Counters()
    list(write([safe(*made)], config, SENSOR, counters))
    assert told(counters) == {"alerts_written": 45}, letters.read_text()[:2000] if letters.exists() else ""
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=stream_name(namespace))
        hits = client.search(index=stream_name(namespace), size=100)["hits"]["hits"]
        caps = client.field_caps(index=stream_name(namespace), fields="*", filters="-metadata")["fields"]
    assert sorted(hit["_id"] for hit in hits) == [f"hostile-{turn:02}" for turn in range(45)]
    texts = {str(text) for hit in hits for pair in leaves(hit["_source"]) for text in pair}
    assert all(text.isprintable() and len(text) <= 4000 for text in texts)
    assert {name: sorted(kinds) for name, kinds in caps.items() if len(kinds) > 1} == {}


def test_a_number_beyond_64_bits_is_left_out_and_its_document_stays() -> None:
    made = document(alert(flow=flow(orig_bytes=2**64, resp_bytes=2**63 - 1)), SENSOR)["packetclip"]["flow"]
    assert "orig_bytes" not in made
    assert made["resp_bytes"] == 9223372036854775807
