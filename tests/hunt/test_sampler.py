"""Windows kept for hunting: which, how many, with which ids, and what their documents say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from factories import MISSIONS, SENSOR, alert, leaves, packet, told
from scripted_server import ScriptedServer

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Config, ElasticsearchConfig, HuntConfig
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.streams import FLOWS
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import AlertBatch, Batch, HuntWindow, Packet
from packetclip_sensor.service import checkpoint
from packetclip_sensor.sinks.elasticsearch import write
from packetclip_sensor.sinks.hunt_documents import check_embedding, flow_document
from packetclip_sensor.sources import tail, zeek

DATA = Path(__file__).parents[1] / "data"
SMALL = "demo-dns-resperf"
ON = HuntConfig(enabled=True)


@cache
def bundle() -> Bundle:
    return Bundle.open(resource("model/shipped"))


@cache
def packets(capture: str) -> tuple[Packet, ...]:
    found = zeek.batches(tail.finite((DATA / capture,)), Rejects(None), Counters())
    return tuple(p for batch in found for p in batch.packets)


def kept(capture: str, hunt: HuntConfig, size: int = 500, counters: Counters | None = None, judged: int = 0) -> list[HuntWindow]:
    """What the sensor keeps of a capture that it reads in batches of `size` packets."""

    def batches() -> Iterator[Batch]:
        every = packets(capture)
        for start in range(0, len(every), size):
            yield Batch(list(every[start : start + size]), [])
        yield Batch([], [], idle=True, final=True)

    settings = Config(hunt=hunt, sensor_name="s")
    safes = pipeline.alerts(batches(), bundle(), settings, counters or Counters(), checkpoint.State(judged=judged))
    return [flow for safe in safes for flow in safe.hunt_windows]


@cache
def undisturbed() -> list[HuntWindow]:
    return kept(SMALL, ON)


def test_what_is_kept_does_not_depend_on_how_the_log_was_read() -> None:
    ids = [flow.id for flow in undisturbed()]
    assert len(ids) == len(set(ids)) > 10
    for size in (77, 100_000):
        assert [flow.id for flow in kept(SMALL, ON, size=size)] == ids


def test_a_restart_keeps_nothing_that_an_undisturbed_sensor_would_not_keep() -> None:
    seconds = sorted({flow.second for flow in undisturbed()})
    for stopped in (seconds[0], seconds[len(seconds) // 2], seconds[-2]):
        after = kept(SMALL, ON, judged=stopped)
        assert all(flow.second > stopped for flow in after)
        before = {flow.id for flow in undisturbed() if flow.second <= stopped}
        assert before | {flow.id for flow in after} == {flow.id for flow in undisturbed()}


def test_an_ordinary_stream_is_kept_once_a_minute_and_one_near_an_alert_every_ten_seconds() -> None:
    spans = Counter((f.near, f.view, hosts(f), f.second // (10 if f.near else 60)) for f in undisturbed())
    assert set(spans.values()) == {1}
    assert {f.near for f in undisturbed()} == {True, False}


def hosts(flow: HuntWindow) -> frozenset[str]:
    last = flow.packets[-1]
    return frozenset({"pair": {last.orig_h, last.resp_h}, "source": {last.orig_h}, "destination": {last.resp_h}}[flow.view])


def test_a_minute_has_at_most_so_many_and_half_of_them_ordinary_and_the_rest_is_counted() -> None:
    counters = Counters()
    found = kept("demo-b00-startup-discovery", HuntConfig(enabled=True, per_minute=6), counters=counters)
    by_minute = Counter(f.second // 60 for f in found)
    ordinary = Counter(f.second // 60 for f in found if not f.near)
    assert max(by_minute.values()) <= 6
    assert max(ordinary.values()) == 3
    assert counters.flows_capped > 0


def test_every_field_of_a_document_is_mapped_with_its_type() -> None:
    mapped = templates.mapped(FLOWS, MISSIONS)
    fits = {"long": int, "double": int | float, "keyword": str, "text": str, "boolean": bool, "date": str, "ip": str}
    for flow in undisturbed():
        made = flow_document(flow, SENSOR)
        assert json.loads(msgspec.json.encode(made)) == made
        assert [(name, value) for name, value in leaves(made) if not isinstance(value, fits.get(mapped[name], float))] == []


def test_a_document_is_an_event_and_says_what_the_window_says() -> None:
    made = flow_document(window(), SENSOR)
    assert made["event"]["kind"] == "event"
    assert made["event"]["id"] == "f1"
    assert made["data_stream"] == {"type": "logs", "dataset": "packetclip.flow", "namespace": "default"}
    assert made["source"] == {"ip": "10.0.0.5", "port": 40000}
    assert made["network"]["community_id"].startswith("1:")
    assert made["zeek"]["session_id"] == "CAb1c23"
    assert made["packetclip"]["mission"] == "Benign"
    assert made["packetclip"]["class"] == "SYN Flood"
    assert made["packetclip"]["class_probabilities"] == {"syn_flood": 0.9, "benign": 0.1}
    assert len(made["packetclip"]["embedding"]) == 64


def test_hostile_names_stay_text_and_never_reach_an_address_field() -> None:
    evil = packet(orig_h="<script>\x1b[31m", uid="C\x00\u202e")
    made = flow_document(window(packets=(evil,) * 4), SENSOR)
    assert "ip" not in made.get("source", {})
    assert made["zeek"]["session_id"] == "C\\x00\\u202e"
    assert "<script>" not in json.dumps(made)


def window(**changed: Any) -> HuntWindow:
    fields: dict[str, Any] = {
        "id": "f1",
        "second": 1,
        "view": "pair",
        "near": False,
        "packets": (packet(),) * 4,
        "missions": {"Benign": 0.9, "DoS": 0.1},
        "classes": {"SYN Flood": 0.9, "Benign": 0.1},
        "facts": {"packets": 4, "view": "pair"},
        "embedding": (0.125,) * 64,
        "model_version": "2",
    }
    return HuntWindow(**(fields | changed))


def test_a_model_of_another_width_is_refused() -> None:
    other = msgspec.structs.replace(bundle().manifest, embedding=32)
    wide = Bundle(**{**vars(bundle()), "manifest": other})
    with pytest.raises(ConfigError, match=r"have 32 numbers, packetclip.embedding takes 64"):
        check_embedding(wide)


def test_windows_that_are_refused_for_rights_never_hold_alerts_back(tmp_path: Path) -> None:
    with ScriptedServer() as server:
        server.answers = [[201], [(403, "security_exception")]]
        cluster = ElasticsearchConfig(hosts=[server.url], manage_templates=False, dead_letter_path=tmp_path / "dead.ndjson")
        counters = Counters()
        batches = [AlertBatch(alerts=[alert(id="a")], hunt_windows=[window()]), AlertBatch(alerts=[alert(id="b")])]
        calls_at_safe = [list(server.calls) for _ in write(batches, cluster, SENSOR, counters, hunt=True)]
        server.shutdown()
    assert calls_at_safe == [[["a"], ["f1"]], [["a"], ["f1"], ["b"]]]  # alerts first, and a Safe only behind both
    assert told(counters) == {"alerts_written": 2, "dead_letters": 1}
    letter = json.loads((tmp_path / "dead.ndjson").read_text())
    assert letter["stream"] == "logs-packetclip.flow-default"
