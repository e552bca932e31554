"""The same sensor on a real OpenSearch: set-up, check, replay twice, kill -9, and what it cannot do there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import urllib3
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


ROLE = {
    "cluster_permissions": ["cluster:monitor/health"],
    "index_permissions": [
        {
            "index_patterns": ["logs-packetclip.*"],
            "allowed_actions": [
                "create_index", "indices:data/write/bulk*", "indices:data/write/index", "indices:admin/mappings/get",
                "indices:monitor/settings/get",
            ],
        }
    ],
}  # fmt: skip
"""As docs/opensearch.md asks for it."""


def asked(node: Node, user: str, method: str, path: str, body: object = None) -> int:
    """Status of a request of a user, `name:password`."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json"} | urllib3.make_headers(basic_auth=user)
    try:
        request = urllib.request.Request(f"{node.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as err:
        return err.code


def test_a_role_of_the_security_plugin_may_write_and_no_more(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real plugin: the role that the page names, a wrong password, one that is changed."""
    page = (Path(__file__).parents[2] / "docs" / "opensearch.md").read_text()
    actions = [*ROLE["cluster_permissions"], *ROLE["index_permissions"][0]["allowed_actions"]]  # type: ignore[misc, index]
    assert all(f"`{action}`" in page for action in actions)
    with own_node(tmp_path_factory.mktemp("secure"), "opensearch-security") as node:
        api = "/_plugins/_security/api"
        user: dict[str, object] = {"password": "first-Passw0rd-of-it", "opendistro_security_roles": ["packetclip-sensor"]}
        assert asked(node, "admin:admin", "PUT", f"{api}/roles/packetclip-sensor", ROLE) == 201
        assert asked(node, "admin:admin", "PUT", f"{api}/internalusers/packetclip", user) == 201
        cluster = f"{{hosts: ['{node.url}'], username: packetclip, password_env: OWN, manage_templates: false}}"
        config = tmp_path / "sensor.yaml"
        config.write_text(f"sensor_name: test\nlogs: ['{CAPTURES[2]}']\nsink: {{opensearch: {cluster}}}\n")

        def run(*arguments: str, password: str = "first-Passw0rd-of-it") -> tuple[int, str]:
            monkeypatch.setenv("OWN", password)
            code = main([*arguments, "--config", str(config)])
            structlog.reset_defaults()
            captured = capsys.readouterr()
            return code, captured.out + captured.err

        monkeypatch.setenv("ADMIN", "admin")
        assert run("setup", "opensearch", "--user", "admin", "--password-env", "ADMIN")[0] == 0
        assert run("replay", CAPTURES[2])[0] == 0
        code, out = run("replay", CAPTURES[2])
        assert (code, "documents had been written before" in out) == (0, True)
        _, out = run("check")
        assert "its mapping has version" in out
        code, out = run("replay", CAPTURES[2], password="wrong")
        assert (code, "answers 401" in out) == (2, True)
        stream, login = "/logs-packetclip.alert-default", f"packetclip:{user['password']}"
        for method, path, body in (
            ("GET", f"{stream}/_search", None),
            ("DELETE", stream, None),
            ("PUT", "/_index_template/mine", {"index_patterns": ["mine"]}),
            ("POST", "/another/_doc", {}),
            ("GET", f"{api}/internalusers", None),
        ):
            assert asked(node, login, method, path, body) == 403, path
        user["password"] = "second-Passw0rd-of-it"
        assert asked(node, "admin:admin", "PUT", f"{api}/internalusers/packetclip", user) == 200
        assert run("replay", CAPTURES[2], password="first-Passw0rd-of-it")[0] == 2
        assert run("replay", CAPTURES[2], password="second-Passw0rd-of-it")[0] == 0
