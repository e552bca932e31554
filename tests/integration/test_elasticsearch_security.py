"""Roles and API keys on a real Elasticsearch with real security: what setup makes, what each key may, wrong and revoked keys."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from elasticsearch import ApiError, Elasticsearch
from elasticsearch_node import PASSWORD, Node, own_node
from factories import SENSOR, alert, safe, told
from sink_run import StopWaitingError

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import JSON, connect
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.errors import SinkError
from packetclip_sensor.sinks.elasticsearch import write

pytestmark = [pytest.mark.elasticsearch, pytest.mark.xdist_group("security")]
CAPTURE = Path(__file__).parents[1] / "data" / "demo-syn-hping"
FORBIDDEN: list[tuple[str, str, dict[str, Any] | None]] = [
    ("DELETE", "/{}", None),
    ("PUT", "/{}/_settings", {"index": {"number_of_replicas": 0}}),
    ("PUT", "/{}/_mapping", {"properties": {}}),
    ("PUT", "/_component_template/mine", {"template": {}}),
    ("POST", "/another/_doc", {"a": 1}),
    ("POST", "/_security/api_key", {"name": "more"}),
    ("PUT", "/_security/role/mine", {"cluster": ["all"]}),
]
"""What neither key may."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with own_node(tmp_path_factory.mktemp("node"), "security") as node:
        yield node


@pytest.fixture
def admin(node: Node) -> Iterator[Elasticsearch]:
    with Elasticsearch(node.url, basic_auth=("elastic", PASSWORD)) as client:
        yield client


class Site:
    """A sensor's and a reader's configuration with keys that setup made."""

    def __init__(self, url: str, namespace: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url, self.namespace, self.folder, self.capsys = url, namespace, folder, capsys
        for name in ("sensor", "reader"):
            (folder / f"{name}.yaml").write_text(self.config(folder / f"{name}.key"))

    def config(self, key: Path) -> str:
        cluster = f"{{hosts: ['{self.url}'], api_key_file: '{key}', manage_templates: false}}"
        return f"sensor_name: test\nnamespace: {self.namespace}\nsink: {{elasticsearch: {cluster}}}\n"

    def run(self, *arguments: str, config: str = "sensor.yaml") -> tuple[int, str, str]:
        code = main([*arguments, "--config", str(self.folder / config)])
        structlog.reset_defaults()
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def setup(self, *arguments: str) -> tuple[int, str, str]:
        return self.run("setup", "elasticsearch", "--user", "elastic", "--password-env", "ADMIN", *arguments)

    def cluster(self, name: str) -> ElasticsearchConfig:
        return ElasticsearchConfig(
            hosts=[self.url], namespace=self.namespace, api_key_file=self.folder / f"{name}.key", manage_templates=False
        )


@pytest.fixture
def site(node: Node, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("ADMIN", PASSWORD)
    made = Site(node.url, namespace, tmp_path, capsys)
    code, out, err = made.setup("--api-key", str(tmp_path / "sensor.key"), "--reader-key", str(tmp_path / "reader.key"))
    assert code == 0, err
    assert f"api_key_file: {tmp_path / 'sensor.key'}\n  manage_templates: false" in out
    return made


def refused(call: Any) -> int:
    """The HTTP status of what must be refused."""
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.status_code


def test_each_key_may_do_its_own_work_and_no_more(site: Site, admin: Elasticsearch) -> None:
    stream, counters = stream_name(site.namespace), Counters()
    assert [stat.S_IMODE((site.folder / f"{name}.key").stat().st_mode) for name in ("sensor", "reader")] == [0o600, 0o600]
    list(write([safe(alert(id="a"), alert(id="b"))], site.cluster("sensor"), SENSOR, counters))
    list(write([safe(alert(id="a"))], site.cluster("sensor"), SENSOR, counters))
    assert told(counters) == {"alerts_written": 2, "alerts_duplicate": 1}
    admin.indices.refresh(index=stream)
    with connect(site.cluster("sensor")) as sensor, connect(site.cluster("reader")) as reader:
        assert reader.count(index=stream)["count"] == 2
        assert refused(lambda: sensor.search(index=stream)) == 403
        for method, path, body in FORBIDDEN:
            for client in (sensor, reader):
                sent = partial(client.perform_request, method, path.format(stream), headers=JSON, body=body)
                assert refused(sent) == 403, path
        document = {"@timestamp": "2025-10-09"}
        assert refused(lambda: reader.index(index=stream, op_type="create", document=document)) == 403
    with pytest.raises(SinkError, match=r"answers 403: .*; give the key create_doc"):
        list(write([safe(alert(id="c"))], site.cluster("reader"), SENSOR, counters))
    assert admin.count(index=stream)["count"] == 2


def test_the_whole_way_with_keys_from_replay_to_explain_report_and_similar(site: Site, admin: Elasticsearch) -> None:
    for _ in range(2):
        assert site.run("replay", str(CAPTURE))[0] == 0
    admin.indices.refresh(index=stream_name(site.namespace))
    hits = admin.search(index=stream_name(site.namespace))["hits"]["hits"]
    assert len({hit["_id"] for hit in hits}) == len(hits) >= 2
    id_, page = hits[0]["_id"], site.folder / "page.html"
    code, out, err = site.run("explain", id_, "--json", config="reader.yaml")
    assert (code, "login_unencrypted" in err) == (0, True)
    assert json.loads(out)["event"]["id"] == id_
    code, out, err = site.run("explain", id_, config="reader.yaml")
    assert (code, f"Seen before (in {stream_name(site.namespace)})" in out) == (0, True), err
    assert site.run("report", "--from-elasticsearch", "--out", str(page), config="reader.yaml")[0] == 0
    assert site.run("similar", id_, "--json", config="reader.yaml")[0] == 0
    code, _, err = site.run("explain", id_)
    assert (code, "give the key the index privileges `read`" in err) == (2, True)


def test_who_may_write_to_the_alerts_marks_them_and_no_key_of_ours_does(
    site: Site, admin: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_name(site.namespace)
    list(write([safe(alert(id="a"), alert(id="b", state="close"))], site.cluster("sensor"), SENSOR, Counters()))
    admin.indices.refresh(index=stream)
    code, _, err = site.run("mark", "e1", "--false", config="reader.yaml")
    assert (code, f"needs the index privileges `read` and `index` on {stream}" in err) == (2, True)
    admin.security.put_role(name="marks", indices=[{"names": ["logs-packetclip.alert-*"], "privileges": ["read", "index"]}])
    admin.security.put_user(username="analyst", password="of-the-analyst", roles=["marks"])
    monkeypatch.setenv("ANALYST", "of-the-analyst")
    code, out, err = site.run("mark", "e1", "--false", "--user", "analyst", "--password-env", "ANALYST")
    assert (code, "marked as false positive in 2 documents" in out) == (0, True), err
    found = admin.search(index=stream)["hits"]["hits"]
    assert [hit["_source"]["packetclip"]["analyst"]["by"] for hit in found] == ["analyst"] * 2
    asked = ["calibrate", "--logs", str(CAPTURE), "--out", str(site.folder / "c.yaml")]
    assert "Marked as false: 1, of which 0 would alert again" in site.run(*asked, config="reader.yaml")[1]
    _, out, err = site.run(*asked)
    assert "alerts that are marked were not read" in err  # the sensor's key may not; the calibration is made all the same
    assert "c.yaml written" in out


def test_check_says_what_a_key_may_not(site: Site) -> None:
    code, out, _ = site.run("check")
    lines = [line for line in out.splitlines() if "sink" in line]
    assert not any(line.startswith("WRONG") for line in lines), lines
    _, out, _ = site.run("check", config="reader.yaml")
    assert "no right to create documents (auto_configure, create_doc missing)" in out
    (site.folder / "sensor.key").write_text("aWQ6bm90LXRoaXMtb25l\n")
    code, out, _ = site.run("check")
    assert code == 1
    assert "answers 401: unable to authenticate" in out
    assert f"check the API key in {site.folder / 'sensor.key'}, and that it has not expired or been taken back" in out


def test_a_wrong_key_ends_the_start_and_a_revoked_one_is_waited_for(site: Site, admin: Elasticsearch) -> None:
    counters, reasons = Counters(), list[str | None]()

    def sleep(_: float) -> None:
        if len(reasons) > 1:
            raise StopWaitingError

    def batches() -> Iterator[Any]:
        yield safe(alert(id="a"))
        code, out, err = site.setup("--remove", "--yes")
        assert code == 0, err
        assert "invalidated" in out
        yield safe(alert(id="b"))

    with pytest.raises(StopWaitingError):
        list(write(batches(), site.cluster("sensor"), SENSOR, counters, sleep=sleep, waiting=reasons.append))
    assert told(counters) == {"alerts_written": 1, "es_retries": 2}
    assert all("answers 401" in str(why) and "been taken back" in str(why) for why in reasons)
    code, _, err = site.run("replay", str(CAPTURE))
    assert (code, "answers 401" in err) == (2, True)

    key = site.folder / "sensor.key"
    code, _, err = site.setup("--api-key", str(key))
    assert (code, "holds no key that this cluster knows; name a new file, or delete this one" in err) == (2, True)
    key.unlink()
    assert site.setup("--api-key", str(key))[0] == 0
    assert site.setup("--api-key", str(key))[0] == 0
    list(write([safe(alert(id="b"))], site.cluster("sensor"), SENSOR, counters))
    assert told(counters)["alerts_written"] == 2
    admin.indices.refresh(index=stream_name(site.namespace))
    assert admin.count(index=stream_name(site.namespace))["count"] == 2


def test_keys_are_not_mixed_up_and_everything_goes_with_all(site: Site, admin: Elasticsearch) -> None:
    code, _, err = site.setup("--api-key", str(site.folder / "reader.key"))
    assert (code, "holds a key packetclip-reader, not packetclip-sensor; name another file" in err) == (2, True)
    code, _, err = site.setup("--remove", "--all", "--yes")
    assert code == 0, err
    quiet = admin.options(ignore_status=404)
    assert quiet.security.get_role(name="packetclip-*").body == {}
    for name in ("sensor", "reader"):
        with connect(site.cluster(name)) as client:
            assert refused(client.cluster.health) == 401
