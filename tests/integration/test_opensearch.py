"""The same sensor on a real OpenSearch: set-up, check, replay twice, kill -9, and what it cannot do there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from elasticsearch_node import Node, own_node

from packetclip_sensor.cli.app import main

pytest.importorskip("opensearchpy", reason="the extra `opensearch` is not installed")
pytestmark = [pytest.mark.elasticsearch, pytest.mark.xdist_group("opensearch")]
DATA = Path(__file__).parents[1] / "data"
CAPTURES = [str(DATA / name) for name in ("demo-syn-hping", "demo-udp-hping", "demo-os-nping", "demo-port-pnscan")]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with own_node(tmp_path_factory.mktemp("node"), "opensearch") as node:
        yield node


def documents(node: Node, namespace: str) -> dict[str, str]:
    """Id and message of each alert."""
    url = f"{node.url}/logs-packetclip.alert-{namespace}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/_refresh", method="POST")).close()
    with urllib.request.urlopen(f"{url}/_search?size=1000") as answer:
        return {hit["_id"]: hit["_source"]["message"] for hit in json.load(answer)["hits"]["hits"]}


def test_the_whole_way_on_opensearch(node: Node, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def config(name: str) -> str:
        path = tmp_path / f"{name}.yaml"
        cluster = f"{{hosts: ['{node.url}'], batch_documents: 2}}"
        path.write_text(f"sensor_name: test\nnamespace: {name}\nsink: {{opensearch: {cluster}}}\n")
        return str(path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments])
        structlog.reset_defaults()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    own = config(namespace)
    code, out, err = run("setup", "opensearch", "--config", own)
    assert code == 0, err
    assert "new      index template" in out
    code, out, err = run("setup", "opensearch", "--config", own)
    assert code == 0, err
    assert {line.split()[0] for line in out.splitlines() if "packetclip" in line} == {"same", "skip"}

    assert run("replay", *CAPTURES, "--config", own)[0] == 0
    once = documents(node, namespace)
    assert len(once) >= 8
    assert run("replay", *CAPTURES, "--config", own)[0] == 0
    assert documents(node, namespace) == once
    code, out, err = run("setup", "opensearch", "--config", own)
    assert code == 0, err
    code, out, _ = run("check", "--config", own)
    lines = [line for line in out.splitlines() if " sink " in line]
    assert any("its templates are this version's" in line for line in lines), lines
    assert not any(line.startswith("WRONG") for line in lines), lines
    code, out, err = run("explain", next(iter(once)), "--json", "--config", own)
    assert (code, json.loads(out)["message"]) == (0, next(iter(once.values())))
    code, out, err = run("explain", next(iter(once)), "--config", own)
    assert code == 0, err
    assert f"Seen before (in logs-packetclip.alert-{namespace})" in out
    code, out, err = run("mark", next(iter(once)), "--false", "--config", own)
    assert (code, "marked as false positive in " in out) == (0, True), err
    code, out, err = run("explain", next(iter(once)), "--json", "--config", own)
    assert json.loads(out)["packetclip"]["analyst"]["verdict"] == "false_positive"
    code, _, err = run("setup", "opensearch", "--config", own, "--api-key", str(tmp_path / "key"))
    assert (code, "makes no keys" in err) == (1, True)

    again = namespace + "k"
    command = [sys.executable, "-m", "packetclip_sensor", "replay", *CAPTURES, "--config", config(again)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            if documents(node, again):
                break
        except OSError:
            time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(documents(node, again)) <= len(once)
    assert run("replay", *CAPTURES, "--config", config(again))[0] == 0
    assert documents(node, again) == once
