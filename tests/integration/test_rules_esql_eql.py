"""The package's rules in ES|QL and EQL, on engines of Elastic's: neither is published for the version that the sensor needs.

ES|QL runs on a real Elasticsearch 8.19, EQL on Elastic's implementation in Python.
"""

from __future__ import annotations

import json
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from elasticsearch_node import own_node
from factories import MISSIONS
from fleet import Package

from mappings.integration import build

ROOT = Path(__file__).parents[2]
GOLDEN = [json.loads(line) for line in (ROOT / "tests/golden/alerts.ndjson").read_text(encoding="utf-8").splitlines()]
PACKAGE = Package(build.package(MISSIONS, built=True))
RULES = {rule["attributes"]["type"]: rule["attributes"] for rule in PACKAGE.objects("security_rule")}
STREAM = "logs-packetclip.alert-default"
Json = dict[str, Any]


@pytest.mark.elasticsearch
@pytest.mark.xdist_group("esql")
def test_the_rule_in_esql_names_each_host_with_several_kinds_of_attack(tmp_path: Path) -> None:
    with own_node(tmp_path, "esql") as node:

        def ask(method: str, path: str, body: str) -> Json:
            headers = {"content-type": "application/x-ndjson" if path.endswith("_bulk?refresh") else "application/json"}
            request = urllib.request.Request(f"{node.url}{path}", body.encode(), headers, method=method)
            with urllib.request.urlopen(request, timeout=120) as answer:
                return dict(json.load(answer))

        template = {"index_patterns": [f"{STREAM}*"], "data_stream": {}, "priority": 200, "template": PACKAGE.template("alert")}
        ask("PUT", "/_index_template/alert", json.dumps(template))
        lines = [line for document in GOLDEN for line in ('{"create": {}}', json.dumps(document))]
        answer = ask("POST", f"/{STREAM}/_bulk?refresh", "\n".join(lines) + "\n")
        assert not answer["errors"], answer
        found = ask("POST", "/_query", json.dumps({"query": RULES["esql"]["query"]}))
    names = [column["name"] for column in found["columns"]]
    assert names == ["destination.ip", "source.ip", "packetclip.mission", "kinds"]
    kinds: dict[str, set[str]] = {}
    for document in GOLDEN:
        if document["packetclip"]["episode"]["state"] == "open":
            for host in listed(document["destination"]["ip"]):
                kinds.setdefault(host, set()).add(document["packetclip"]["mission"])
    attacked = {host: several for host, several in kinds.items() if len(several) > 1}
    assert len(attacked) == 1
    assert {row[0]: set(row[2]) for row in found["values"]} == attacked
    assert [row[3] for row in found["values"]] == [2]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_rule_in_eql_finds_a_scan_that_is_followed_by_guessing() -> None:
    eql = pytest.importorskip("eql", reason="runs the EQL rule; pip install eql")
    opening = next(document for document in GOLDEN if document["packetclip"]["episode"]["state"] == "open")

    def opened(hours: float, mission: str, source: str) -> Any:
        document = opening | {
            "data_stream": opening["data_stream"] | {"dataset": "packetclip.alert"},
            "packetclip": opening["packetclip"] | {"mission": mission},
            "source": {"ip": source},
        }
        ticks = (datetime(2026, 11, 21) + timedelta(hours=hours)).timestamp() * 1e7  # of 100 ns, as EQL has its times
        return eql.Event("generic", int(ticks), document)

    events = [
        opened(0, "Reconnaissance", "192.0.2.1"),
        opened(0, "Brute Force", "192.0.2.2"),
        opened(0, "Reconnaissance", "192.0.2.3"),
        opened(1, "Brute Force", "192.0.2.1"),
        opened(1, "Reconnaissance", "192.0.2.2"),
        opened(1, "DoS", "192.0.2.3"),
        opened(7, "Brute Force", "192.0.2.3"),
    ]
    engine, found = eql.PythonEngine(), list[Any]()
    engine.add_query(eql.parse_query(RULES["eql"]["query"], implied_any=True))
    engine.add_output_hook(found.append)
    engine.stream_events(events)
    assert [[event.data["source"]["ip"] for event in result.events] for result in found] == [["192.0.2.1"] * 2]
