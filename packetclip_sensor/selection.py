"""Which packets of finished logs are looked at: not those of some hosts, and only those between two times."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Batch


@dataclass(frozen=True)
class Selection:
    """Which packets are looked at."""

    exclude: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    since: float = 0.0
    until: float = float("inf")

    @staticmethod
    def of(exclude: Sequence[str], since: str | None, until: str | None) -> Selection:
        """Read hosts and networks, and ISO 8601 times, which are UTC where they name no offset.

        Raises:
            ConfigError: one of them is none, or nothing is left between the times.
        """
        networks = []
        for text in exclude:
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError as err:
                raise ConfigError(f"--exclude {text!r}: neither a host nor a network; write 192.0.2.7 or 192.0.2.0/24") from err
        first = _time("--since", since) if since else 0.0
        last = _time("--until", until) if until else float("inf")
        if first >= last:
            raise ConfigError(f"--since {since} is not before --until {until}; turn them round")
        return Selection(tuple(networks), first, last)

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with the chosen packets, and no flow rows, which judge nothing."""
        excluded = lru_cache(maxsize=200_000)(self._excluded)
        for batch in batches:
            packets = batch.packets
            if self.since or self.until != float("inf"):
                packets = [p for p in packets if self.since <= p.ts < self.until]
            if self.exclude:
                packets = [p for p in packets if not (excluded(p.orig_h) or excluded(p.resp_h))]
            yield Batch(packets, [], batch.start, batch.end, batch.idle, batch.final)

    def _excluded(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.exclude)


def _time(option: str, text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as err:
        raise ConfigError(f"{option} {text!r}: no time; write 2025-10-09 or 2025-10-09T08:00 (UTC)") from err
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
