"""The client of OpenSearch, in calls and errors of Elasticsearch's."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from elastic_transport import TransportError

from packetclip_sensor.config.settings import ElasticsearchConfig

pytest.importorskip("opensearchpy", reason="the extra `opensearch` is not installed")


class Page(BaseHTTPRequestHandler):
    """A proxy that answers with a page of its own."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-page")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_answer_in_no_form_that_the_client_knows_is_an_error_at_which_the_sensor_waits(proxy: str) -> None:
    from packetclip_sensor.elastic.opensearch import connect

    with (
        connect(ElasticsearchConfig(hosts=[proxy]), {}) as client,
        pytest.raises(TransportError, match=r"no JSON.*application/x-page"),
    ):
        client.bulk(index="alerts", operations=[b"{}", b"{}"], require_data_stream=True, filter_path="items")
