"""The pages `/metrics` (Prometheus' text format) and `/health` (JSON, 200 or 503), for reading only.

Whoever can reach the port must not be able to harm the sensor: few connections, of which an idle one makes room for the next,
small requests, a deadline for the whole exchange, one request for each connection, ten answers a second, and a page is made at
most once a second, however often it is asked for. No web page elsewhere can read them through a visitor's browser, by a name of
its own that leads here (DNS rebinding): requests by an address, by this machine's name or by a name that is set are answered.
The server is the standard library's, in threads of its own; what it does not bound is bound here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from packetclip_sensor import __version__
from packetclip_sensor.common.metrics import Counters, Gauges, meanings
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.service.health import REASONS, Health

MAX_CONNECTIONS = 16
MAX_HEAD_BYTES = 8192
DEADLINE_S = 5.0
PACE_S = 0.1
"""At most one connection in this time is answered: Python gives threads turns, and the pipeline is another one."""
LOOK_S = 0.2
"""How often the server looks whether it is to end."""
FRESH_S = 1.0
ROOM_S = 0.5
"""So long a new connection waits for the place of an idle one."""
TEXT, JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json"
INDEX = b"PacketCLIP sensor\n/metrics  for Prometheus\n/health   200 where all is well, else 503 with the reasons\n"

log = structlog.get_logger()
Page = tuple[int, str, bytes]


class Metrics(Collector):
    """Counters, gauges and reasons as Prometheus wants them: `packetclip_` in front, `_total` behind what only rises."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._meanings = meanings(Counters) | meanings(Gauges)

    def collect(self) -> Iterator[Metric]:
        health = self._health
        yield InfoMetricFamily(
            "packetclip_sensor",
            "Which sensor this is.",
            {"version": __version__, "model_version": health.model_version, "sensor": health.sensor},
        )
        for name, total in health.counters.as_dict().items():
            yield CounterMetricFamily(f"packetclip_{name}", self._meanings.get(name, name), value=total)
        by_rule = CounterMetricFamily("packetclip_suppressed_by_rule", "packetclip_suppressed by rule.", labels=["rule"])
        for rule, total in dict(health.counters.suppressed_by_rule).items():
            by_rule.add_metric([rule], total)
        yield by_rule
        for name, value in health.gauges().as_dict().items():
            yield GaugeMetricFamily(f"packetclip_{name}", self._meanings.get(name, name), value=value)
        reasons = {reason.name for reason in health.reasons()}
        unhealthy = GaugeMetricFamily("packetclip_unhealthy", "1 for each reason why /health answers 503.", labels=["reason"])
        for name in REASONS:
            unhealthy.add_metric([name], float(name in reasons))
        yield unhealthy


class HealthPage(ThreadingTCPServer):
    """Serves the pages until its context ends. `port` is the one that was bound."""

    daemon_threads, block_on_close = True, False
    allow_reuse_address = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, health: Health, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Listen and begin.

        Raises:
            ConfigError: the address or port cannot be listened on.
        """
        config = health.config
        self.health, self.clock = health, clock
        self.unread: deque[socket.socket] = deque()
        """Connections whose request is not whole, oldest first."""
        own = ("localhost", socket.gethostname(), config.address, *config.names)
        self.names = frozenset(name.lower().removesuffix(".") for name in own)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Metrics(health))
        ProcessCollector(registry=self._registry)
        self._made: dict[str, tuple[float, Page]] = {}
        self._making = threading.Lock()
        self.free = threading.Semaphore(MAX_CONNECTIONS)
        try:
            found = socket.getaddrinfo(config.address, config.port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family, where = found[0][0], found[0][4]
            super().__init__(where[:2], _Exchange)  # type: ignore[arg-type]
        except OSError as err:
            raise ConfigError(
                f"health.address {config.address}, health.port {config.port}: cannot be listened on ({err.strerror or err}); "
                "set another port, or null for no pages"
            ) from err
        self.port: int = self.server_address[1]
        log.info("health_page", address=config.address, port=self.port)
        if config.address not in ("127.0.0.1", "::1", "localhost"):
            log.warning("health_page_open", address=config.address, remedy="let only Prometheus reach it, it has no password")
        self._thread = threading.Thread(target=self.serve_forever, args=(LOOK_S,), name="health-page", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join(DEADLINE_S)
        self.server_close()

    def verify_request(self, *_: Any) -> bool:
        """Take a connection each PACE_S; those that come faster wait in the kernel, and cost nothing there."""
        time.sleep(PACE_S)
        return self.free.acquire(blocking=False) or (self._end_oldest() and self.free.acquire(timeout=ROOM_S))

    def _end_oldest(self) -> bool:
        """End the connection that has been silent longest, of those whose request is not whole."""
        with contextlib.suppress(IndexError, OSError):
            self.unread.popleft().shutdown(socket.SHUT_RDWR)
            return True
        return False

    def answers_to(self, host: str) -> bool:
        """Whether a request's Host (RFC 9110, 7.2) is one of ours: an address, which no name server can turn, or a known name."""
        name = re.sub(r":\d*$", "", host.strip().lower())
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
        return name.removesuffix(".") in self.names

    def process_request_thread(self, *connection: Any) -> None:
        """As the base class."""
        try:
            super().process_request_thread(*connection)
        finally:
            self.free.release()

    def handle_error(self, *_: Any) -> None:
        """Whoever hangs up or is too slow is no error."""
        if not isinstance(sys.exception(), OSError):
            log.exception("health_page_failed")

    def page(self, path: str) -> Page:
        """Status, content type and text of a page, made anew where it is older than FRESH_S."""
        if path == "/":
            return 200, TEXT, INDEX
        if path not in ("/metrics", "/health"):
            return 404, TEXT, b"here are /metrics and /health\n"
        with self._making:
            made_at, page = self._made.get(path, (-FRESH_S, None))
            if page is None or self.clock() - made_at >= FRESH_S:
                page = self._make(path)
                self._made[path] = self.clock(), page
        return page

    def _make(self, path: str) -> Page:
        if path == "/metrics":
            return 200, TEXT, generate_latest(self._registry)
        well, text = self.health.as_json()
        return 200 if well else 503, JSON, text


class _Exchange(BaseRequestHandler):
    """One request and its answer. Of the request its first line is looked at, once all up to the empty line is there."""

    server: HealthPage

    def handle(self) -> None:
        """Read and answer before the deadline, or give up."""
        until, head = time.monotonic() + DEADLINE_S, b""
        self.server.unread.append(self.request)
        try:
            head = self._read(until)
        finally:
            with contextlib.suppress(ValueError):
                self.server.unread.remove(self.request)
        if head:
            self.request.settimeout(max(0.001, until - time.monotonic()))  # of `sendall` as a whole
            self.request.sendall(self._answer(head))

    def _read(self, until: float) -> bytes:
        """The request up to its empty line, or more than there may be; nothing where the other side ends before."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) <= MAX_HEAD_BYTES:
            self.request.settimeout(max(0.001, until - time.monotonic()))
            part = self.request.recv(65536)
            if not part:
                return b""
            head += part
        return head

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path, _, version = rest.partition(b" ")
        if len(head) > MAX_HEAD_BYTES:
            return _response((431, TEXT, b"the request is too long\n"))
        if not version.startswith(b"HTTP/1.") or b" " in version:
            return _response((400, TEXT, b"this is no HTTP/1 request\n"))
        lines = [line.partition(b":") for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
        hosts = [value.decode("latin-1") for name, _, value in lines if name.strip().lower() == b"host"]
        if not all(map(self.server.answers_to, hosts)):
            return _response((403, TEXT, b"not by this name: ask by address, or set health.names\n"))
        if method not in (b"GET", b"HEAD"):
            return _response((405, TEXT, b"these pages are for reading only: GET or HEAD\n"), "Allow: GET, HEAD\r\n")
        return _response(self.server.page(path.partition(b"?")[0].decode("latin-1")), body=method == b"GET")


def _response(page: Page, more: str = "", *, body: bool = True) -> bytes:
    status, kind, text = page
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode("ascii") + (text if body else b"")
