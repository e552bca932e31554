"""What the benchmarks share: a cluster that is asked for has to answer."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.common import ask_for_cluster


@pytest.fixture
def refusing() -> Iterator[str]:
    """URL of a server that answers, if only with 405."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def parsed(*argv: str) -> str:
    parser = argparse.ArgumentParser()
    ask_for_cluster(parser)
    url: str = parser.parse_args(argv).elasticsearch
    return url


def test_a_cluster_that_answers_is_taken(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("--elasticsearch", refusing) == refusing
    monkeypatch.setenv("PACKETCLIP_TEST_ELASTICSEARCH", refusing)
    assert parsed() == refusing


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere"])
def test_where_none_answers_there_is_one_line_with_the_remedy(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--elasticsearch", url)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{url}: no Elasticsearch answers (" in said
    assert "start one, or name another with --elasticsearch URL" in said
