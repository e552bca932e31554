"""Alerts as syslog messages (RFC 5424) over TLS (RFC 5425), each framed by its length in octets.

Syslog has no acknowledgement, TLS has one at its end: a receiver answers our `close_notify` behind everything that it has read
(RFC 5425, 4.4). So each batch has a connection of its own, and counts once the receiver has closed it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from collections.abc import Sequence

from packetclip_sensor.common.text import printable
from packetclip_sensor.config.settings import SyslogConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.sinks.forward.forwarding import BusyError, Document, connected, tls, unreached

LEVELS = ((99, 2), (73, 3), (47, 4), (0, 5))
"""Syslog severity from an `event.severity` on: critical, error, warning, notice."""
LEFT_OUT = frozenset({"classes", "concepts", "graphs", "paths", "evidence", "texts", "facts", "flow", "embedding"})
"""Of `packetclip`: receivers cut messages beyond 8 kB (RFC 5425, 4.3.1), and the whole document has many more."""


class Syslog:
    """One receiver of syslog over TLS."""

    name, at_once = "syslog", 500

    def __init__(self, config: SyslogConfig, sensor: str) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigError: the host is none, or a certificate cannot be used.
        """
        if not config.host or "/" in config.host:
            raise ConfigError(f"sink.syslog.host {config.host!r}: no name or address of a host; write it like syslog.example.org")
        self._config = config
        self.where = f"{config.host}:{config.port}"
        self._context = tls("sink.syslog", config.ca_certs, verify=config.verify_certs, certificate=config.certificate)
        # In TLS 1.3 our side is done before the receiver has looked at a certificate: it may refuse behind the last message, and
        # its closing then looks like an acknowledgement. Every receiver has to have 1.2 (RFC 5425, 4.2).
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._sensor = "".join(char for char in sensor if "!" <= char <= "~")[:255] or "-"

    def send(self, documents: Sequence[Document]) -> None:
        frames = b"".join(self.frame(document) for document in documents)
        try:
            connection = connected(self._config.host, self._config.port, self._context, self._config.timeout_s)
            with connection:
                connection.sendall(frames)
                _await_close(connection)
        except OSError as err:
            raise BusyError(printable(unreached("sink.syslog", self.where, err), 500)) from err

    def probe(self) -> None:
        connected(self._config.host, self._config.port, self._context, self._config.timeout_s).close()

    def frame(self, document: Document) -> bytes:
        """MSG-LEN SP SYSLOG-MSG. The message is ASCII, so that it needs no byte order mark (RFC 5424, 6.4)."""
        severity = next(level for least, level in LEVELS if document["event"]["severity"] >= least)
        own = {name: value for name, value in document["packetclip"].items() if name not in LEFT_OUT}
        head = f"<{self._config.facility * 8 + severity}>1 {document['@timestamp']} {self._sensor} packetclip {os.getpid()}"
        text = json.dumps(document | {"packetclip": own}, separators=(",", ":"))
        message = f"{head} {own['episode']['state']} - {text}".encode("ascii")
        return b"%d %s" % (len(message), message)


def _await_close(connection: socket.socket) -> None:
    """Close our side, and return once the receiver has closed its own: it has read everything then.

    One that closes the TCP connection only, without TLS's word, has read everything too: a connection with unread bytes is reset.
    """
    assert isinstance(connection, ssl.SSLSocket)
    with contextlib.suppress(ssl.SSLEOFError):
        connection.unwrap()
