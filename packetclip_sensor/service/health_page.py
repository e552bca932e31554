"""The pages `/metrics` (Prometheus' text format) and `/health` (JSON, 200 or 503), for reading only.

Whoever can reach the port must not be able to harm the sensor: few connections, small requests, a deadline for the whole
exchange, ten answers a second, and a page is made at most once a second, however often it is asked for. All of it happens in a
thread of its own. HTTP is written by hand: the standard library's servers bound neither headers nor connections nor time.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Self

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
"""At most one connection in this time is answered: Python gives two threads turns, and the pipeline is the other one."""
FRESH_S = 1.0
TEXT, JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json"
STATUS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
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


class HealthPage:
    """A context in which the pages are served. `port` is the one that was bound."""

    def __init__(self, health: Health, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.port = 0
        self._health, self._clock = health, clock
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Metrics(health))
        ProcessCollector(registry=self._registry)
        self._made: dict[str, tuple[float, Page]] = {}
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._bound: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="health-page", daemon=True)

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: the address or port cannot be listened on.
        """
        config = self._health.config
        self._thread.start()
        try:
            self._bound.result()
        except OSError as err:
            raise ConfigError(
                f"health.address {config.address}, health.port {config.port}: cannot be listened on ({err.strerror or err}); "
                "set another port, or null for no pages"
            ) from err
        log.info("health_page", address=config.address, port=self.port)
        if config.address not in ("127.0.0.1", "::1", "localhost"):
            log.warning("health_page_open", address=config.address, remedy="let only Prometheus reach it, it has no password")
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        if self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        config = self._health.config
        try:
            server = _listening(config.address, config.port or 0)
        except OSError as err:
            self._bound.set_exception(err)
            return
        self._end = asyncio.Event()
        with server:
            self.port = server.getsockname()[1]
            accepting = self._loop.create_task(self._accept(server))
            self._bound.set_result(None)
            await self._end.wait()
            accepting.cancel()

    async def _accept(self, server: socket.socket) -> None:
        """Take a connection each PACE_S; those that come faster wait in the kernel, and cost nothing there."""
        while True:
            try:
                line, _ = await self._loop.sock_accept(server)
            except OSError:  # it hung up meanwhile, or no descriptor is left
                await asyncio.sleep(PACE_S)
                continue
            if self._open >= MAX_CONNECTIONS:
                line.close()
            else:
                task = self._loop.create_task(self._answer(line))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(PACE_S)

    async def _answer(self, line: socket.socket) -> None:
        self._open += 1
        try:
            reader, writer = await asyncio.open_connection(sock=line, limit=MAX_HEAD_BYTES)
            # drain() then returns only when the answer has left, so that the deadline holds for slow readers too
            writer.transport.set_write_buffer_limits(0)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    try:
                        answer = self._respond(await reader.readuntil(b"\r\n\r\n"))
                    except asyncio.LimitOverrunError:
                        answer = _response((431, TEXT, b"the request is too long\n"))
                    writer.write(answer)
                    await writer.drain()
                writer.close()
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                writer.transport.abort()
        finally:
            self._open -= 1

    def _respond(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response((400, TEXT, b"this is no HTTP/1 request\n"))
        if words[0] not in (b"GET", b"HEAD"):
            return _response((405, TEXT, b"these pages are for reading only: GET or HEAD\n"), "Allow: GET, HEAD\r\n")
        return _response(self._page(words[1].partition(b"?")[0].decode("latin-1")), body=words[0] == b"GET")

    def _page(self, path: str) -> Page:
        if path == "/":
            return 200, TEXT, INDEX
        if path not in ("/metrics", "/health"):
            return 404, TEXT, b"here are /metrics and /health\n"
        made_at, page = self._made.get(path, (-FRESH_S, (0, "", b"")))
        if not page[0] or self._clock() - made_at >= FRESH_S:
            page = self._make(path)
            self._made[path] = self._clock(), page
        return page

    def _make(self, path: str) -> Page:
        if path == "/metrics":
            return 200, TEXT, generate_latest(self._registry)
        well, text = self._health.as_json()
        return 200 if well else 503, JSON, text


def _listening(address: str, port: int) -> socket.socket:
    """A socket that listens; connections that are not taken yet wait in a short queue.

    Raises:
        OSError: the address is none of this machine's, or the port is taken.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    server = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(where)
        server.listen(MAX_CONNECTIONS)
    except OSError:
        server.close()
        raise
    return server


def _response(page: Page, more: str = "", *, body: bool = True) -> bytes:
    status, kind, text = page
    head = (
        f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode("ascii") + (text if body else b"")
