"""An API key over TLS: a real nginx before the real node ends TLS and looks at the key, as a site's proxy does.

The node itself has neither TLS nor security. The certificates are made here, by openssl.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from elasticsearch import Elasticsearch
from machine import free_port, unavailable, until

from packetclip_sensor.cli.app import main
from packetclip_sensor.elastic.streams import stream_name

pytestmark = pytest.mark.elasticsearch

KEY, WRONG_KEY = "a2V5LWlkOnRoZS1zZWNyZXQ=", "a2V5LWlkOmFub3RoZXItc2VjcmV0"
LOGS = Path(__file__).parents[1] / "data" / "demo-syn-hping"


@dataclass(frozen=True)
class Proxy:
    url: str
    other_name_url: str
    """The same with a certificate for another host."""
    authority: Path
    another_authority: Path


def certificates(home: Path) -> None:
    """An authority, another one, and two servers of the first: one for 127.0.0.1, one for another host."""
    signed = ("-CA", "authority.pem", "-CAkey", "authority.key", "-addext")
    for name, more in {
        "authority": (),
        "another": (),
        "server": (*signed, "subjectAltName=IP:127.0.0.1"),
        "other-name": (*signed, "subjectAltName=DNS:elastic.example.org"),
    }.items():
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem")
        command = ["openssl", "req", "-x509", "-days", "2", "-subj", f"/CN={name}", *new, *more]
        subprocess.run(command, cwd=home, check=True, capture_output=True)


@pytest.fixture(scope="module")
def proxy(elasticsearch_node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None or shutil.which("openssl") is None:
        unavailable("an API key over TLS is tested through nginx and openssl, which are not installed")
    assert nginx is not None
    home, port, other_port = tmp_path_factory.mktemp("nginx"), free_port(), free_port()
    certificates(home)
    filled = {"home": home, "key": KEY, "port": port, "other_port": other_port, "node": elasticsearch_node}
    text = re.sub(r"@(\w+)@", lambda match: str(filled[match[1]]), Path(__file__).with_name("nginx.conf").read_text())
    (home / "nginx.conf").write_text(text)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([nginx, "-e", "stderr", "-p", home, "-c", home / "nginx.conf"], stdout=log, stderr=log)
    made = Proxy(f"https://127.0.0.1:{port}", f"https://127.0.0.1:{other_port}", home / "authority.pem", home / "another.pem")
    try:
        until(lambda: answer(made, KEY) == 200 or process.poll() is not None, 60)
        assert (answer(made, KEY), answer(made, WRONG_KEY)) == (200, 401), (home / "log").read_text()
        yield made
    finally:
        process.terminate()
        process.wait(10)


def answer(proxy: Proxy, key: str) -> int:
    """What the proxy says to a request with this key; 0 where there is none yet."""
    context = ssl.create_default_context(cafile=str(proxy.authority))
    request = urllib.request.Request(f"{proxy.url}/_cluster/health", headers={"authorization": f"ApiKey {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as opened:
            return int(opened.status)
    except urllib.error.HTTPError as err:
        return err.code
    except (urllib.error.URLError, OSError):
        return 0


@pytest.fixture
def config(proxy: Proxy, namespace: str, tmp_path: Path, elasticsearch_url: str) -> Any:
    """Writes a sensor's configuration; `changed` goes below sink.elasticsearch. The lock of `elasticsearch_url` is held."""

    def write(key: str = KEY, **changed: Any) -> str:
        (tmp_path / "key").write_text(key + "\n")
        (tmp_path / "key").chmod(0o600)
        sink = {"hosts": [proxy.url], "ca_certs": str(proxy.authority), "api_key_file": str(tmp_path / "key"), **changed}
        sink = {name: value for name, value in sink.items() if value is not None}
        path = tmp_path / "sensor.yaml"
        settings = {"namespace": namespace, "sensor_name": "tls", "sink": {"elasticsearch": sink}}
        path.write_text(yaml.safe_dump(settings))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"key": WRONG_KEY}, ("401", "unable to authenticate", "check the ")),
        ({"ca_certs": "another"}, ("the certificate is not signed by the authority in ca_certs", "name the PEM file")),
        ({"ca_certs": None}, ("the certificate's authority is unknown to this machine; set sink.elasticsearch.ca_certs",)),
        ({"hosts": "other name"}, ("the certificate is for another name; write the name that it carries",)),
        ({"hosts": "plain"}, ("this port speaks TLS: write https://",)),
    ],
    ids=["wrong key", "wrong authority", "no authority", "wrong name", "plain HTTP"],
)
def test_what_is_wrong_is_refused_at_start_with_the_remedy(
    config: Any, proxy: Proxy, changed: dict[str, Any], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the sensor, by check and by setup alike; nothing is retried for ever and nothing is a traceback."""
    places = {"another": str(proxy.another_authority), "other name": [proxy.other_name_url]}
    places["plain"] = [proxy.url.replace("https", "http")]
    path = config(**{name: places.get(value, value) for name, value in changed.items()})
    for command, code in (
        (["replay", str(LOGS), "--config", path], 2),
        (["check", "--config", path], 1),
        (["setup", "elasticsearch", "--config", path, "--dry-run"], 2),
    ):
        assert main(command) == code, command
        told = "".join(capsys.readouterr())
        assert all(word in told for word in words), f"{command}: {told}"
        assert "Traceback" not in told
        assert KEY not in told
        assert WRONG_KEY not in told


def test_the_right_key_and_authority_let_the_sensor_write(
    config: Any, namespace: str, elasticsearch_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(LOGS), "--config", config()]) == 0, capsys.readouterr().err
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=stream_name(namespace))
        assert client.count(index=stream_name(namespace))["count"] >= 2
