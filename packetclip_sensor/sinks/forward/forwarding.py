"""Alerts sent on to a receiver that keeps no ids, as Elasticsearch does: each until it is acknowledged, and not again afterwards.

The ids of what was acknowledged stand in a file, so that the minutes that a restarted sensor reads again are not sent again. A
kill between the acknowledgement and that file makes a document come twice, with the same id: at least once, hardly ever twice.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from packetclip_sensor.common import durable
from packetclip_sensor.common.durable import Sleep, Waiting, patiently
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks import dead_letters
from packetclip_sensor.sinks.delivery import Patience
from packetclip_sensor.sinks.documents import SensorInfo, document

MAX_IDS = 100_000
"""Ids remembered at least; a restart reads minutes again, a replay perhaps a day."""
REFUSED_BYTES = 64 << 20
"""Most bytes of refused documents that are kept."""
Document = dict[str, Any]

log = structlog.get_logger()


class BusyError(Exception):
    """The receiver took nothing, for now or until a person corrects what the message says; the same is sent again."""

    def __init__(self, why: str, at_least_s: float = 0.0) -> None:
        super().__init__(why)
        self.at_least_s = at_least_s


class RefusedError(Exception):
    """The receiver will never take this document."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Target(Protocol):
    """A receiver."""

    name: str
    """`webhook` or `syslog`: the key below `sink`, and the beginning of names of events and files."""
    where: str
    """Its address as logs and messages may show it."""
    at_once: int
    """Most documents in one call of `send`."""

    def send(self, documents: Sequence[Document]) -> None:
        """Return once all are acknowledged.

        Raises:
            BusyError: they are not. RefusedError: the one document is no good.
        """

    def probe(self) -> None:
        """Connect, and send nothing.

        Raises:
            OSError: it cannot be reached, or shows no certificate that is trusted.
        """


class Sent:
    """The ids that a receiver has acknowledged, in a file of one a line."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be read or made."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = durable.opened(path)
        with path.open(encoding="ascii", errors="replace") as file:
            self.ids = dict.fromkeys(file.read().split("\n")[:-1])
        if half := durable.unfinished(self._fd):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - len(half))

    def add(self, ids: Iterable[str]) -> None:
        """Remember ids, on the disk.

        Raises:
            OSError: the file cannot be written.
        """
        self.ids |= dict.fromkeys(ids)
        if len(self.ids) > 2 * MAX_IDS:
            self.ids = dict.fromkeys(list(self.ids)[-MAX_IDS:])
            durable.replace(self._path, _lines(self.ids))
            self.close()
            self._fd = durable.opened(self._path)
        else:
            durable.append(self._fd, _lines(ids), self._path.parent)

    def close(self) -> None:
        os.close(self._fd)


def _lines(ids: Iterable[str]) -> bytes:
    return "".join(f"{one}\n" for one in ids).encode()


def write(
    batches: Iterable[AlertBatch],
    target: Target,
    folder: Path,
    sensor: SensorInfo,
    counters: Counters,
    *,
    sleep: Sleep = time.sleep,
    rng: Any = random.random,
    waiting: Waiting = lambda why: None,
) -> Iterator[AlertBatch]:
    """Send each alert on, and yield its `AlertBatch` once the receiver or the dead-letter file has it.

    Args:
        folder: of what the sensor must remember (`sent`, `refused`).
        counters: `alerts_forwarded`, `forward_retries` and `dead_letters` rise.
    Raises:
        ConfigError: the file of ids cannot be made.
    """
    path = sent(folder, target.name)
    try:
        known = Sent(path)
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; let the sensor's user write in state_dir") from err
    patience = Patience(target.name, {"to": target.where}, counters, "forward_retries", sleep, rng, waiting)
    with closing(known):
        for batch in batches:
            fresh = {alert.id: alert for alert in batch.alerts if alert.id not in known.ids}
            documents = [document(alert, sensor) for alert in fresh.values()]
            for first in range(0, len(documents), target.at_once):
                some = documents[first : first + target.at_once]
                _deliver(some, target, folder, counters, patience)
                ids = [one["event"]["id"] for one in some]
                patiently(partial(known.add, ids), lambda err: f"{path}: {err}", target.name, path, sleep, waiting)
            yield batch


def _deliver(documents: Sequence[Document], target: Target, folder: Path, counters: Counters, patience: Patience) -> None:
    """Send until they are acknowledged, or one is refused for good."""
    while True:
        try:
            target.send(documents)
        except BusyError as err:
            patience.wait(str(err), err.at_least_s)
            continue
        except RefusedError as err:
            letters = dead_letters.DeadLetters(refused(folder, target.name), REFUSED_BYTES, counters, patience.wait)
            raw = msgspec.Raw(msgspec.json.encode(documents[0]))
            letters.add([dead_letters.Letter(documents[0]["event"]["id"], err.status, target.name, str(err), raw)])
            log.error("documents_dead_lettered", count=1, path=letters.path, status=err.status, reason=str(err))
        else:
            counters.alerts_forwarded += len(documents)
        patience.well()
        return


def redeliver(target: Target, folder: Path, counters: Counters) -> int:
    """Send what the receiver refused again, say after its template was corrected; returns how many documents were read."""
    count, patience = 0, Patience(target.name, {"to": target.where}, counters, "forward_retries", time.sleep)
    with dead_letters.taken(refused(folder, target.name)) as files:
        for path in files:
            for letter in dead_letters.read(path):
                _deliver([msgspec.json.decode(letter.document)], target, folder, counters, patience)
                count += 1
            path.unlink()
    return count


def sent(folder: Path, name: str) -> Path:
    """File of the ids that a receiver has acknowledged."""
    return folder / f"{name}-sent.txt"


def refused(folder: Path, name: str) -> Path:
    """Dead-letter file of a receiver."""
    return folder / f"{name}-dead-letters.ndjson"


def tls(key: str, ca_certs: Path | None, *, verify: bool, certificate: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer as a client, with the system's authorities where none is named.

    Args:
        key: of the configuration, for messages. certificate: PEM file with this client's certificate and key.
    Raises:
        ConfigError: a file cannot be read or is none of the kind.
    """
    try:
        context = ssl.create_default_context(cafile=ca_certs)
        if certificate is not None:
            context.load_cert_chain(certificate)
    except OSError as err:
        named = ca_certs if ca_certs is not None and not ca_certs.is_file() else certificate or ca_certs
        raise ConfigError(f"{key}: {named}: {err.strerror or err}; name a PEM file that this user may read") from err
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        log.warning("certificates_not_verified", reason=f"{key}.verify_certs: false: whoever is on the way gets all alerts")
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connected(host: str, port: int, context: ssl.SSLContext | None, timeout_s: float) -> socket.socket:
    """A connection, through TLS where there is a context.

    Raises:
        OSError: nobody listens, or the certificate is not trusted.
    """
    plain = socket.create_connection((host, port), timeout_s)
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def unreached(key: str, where: str, err: Exception) -> str:
    """What went wrong on the way, and the remedy."""
    remedy = "check address, port and firewall, and that it runs"
    if "CERTIFICATE_VERIFY_FAILED" in str(err):
        remedy = f"set {key}.ca_certs to the PEM file of the authority that signed it"
    return f"{key} {where}: {' '.join(str(err).split())}; {remedy}"
