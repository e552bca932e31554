"""Which packets of finished logs are looked at: not those of some hosts, and only those between two times."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from packetclip_sensor.common.time_parsing import moment
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
        """Read hosts and networks, and times as `moment` takes them.

        Raises:
            ConfigError: one of them is none, or nothing is left between the times.
        """
        networks = []
        for text in exclude:
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError as err:
                raise ConfigError(f"--exclude {text!r}: neither a host nor a network; write 192.0.2.7 or 192.0.2.0/24") from err
        first = moment("--since", since) if since is not None else 0.0
        last = moment("--until", until) if until is not None else float("inf")
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
