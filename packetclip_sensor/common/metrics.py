"""Counters and gauges of the whole sensor, each with its meaning: what `/metrics`, the interval line and health documents tell.

One `Counters` is handed to every stage, so that nothing is dropped without being counted. The text below a field is its
description everywhere: in Prometheus' HELP line and in docs/operations.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals since the start; every field only rises. Counts of things, except where the name ends in a unit."""

    lines: int = 0
    """Log lines read."""
    packets: int = 0
    """Packet records read."""
    flows: int = 0
    """Flow records read."""
    connections_skipped: int = 0
    """Connections that Zeek's script left out of the packet log, since a host got more than `max_new_connections` in a second."""
    rejects: int = 0
    """Bad lines: not whole, not JSON, a field missing or wrong, too long."""
    rejects_unwritten: int = 0
    """Bad lines that the rejects file could not take (disk full); counted in `rejects` as well."""
    late_packets: int = 0
    """Packets of a second that was already judged; they are judged in the next one."""
    windows: int = 0
    """Windows judged."""
    encoded_rows: int = 0
    """Distinct token rows that went through the encoder."""
    cached_rows: int = 0
    """Token rows whose embedding came from the cache."""
    evicted: int = 0
    """Packets let go because more were held than `limits.packets_held` allows."""
    evicted_streams: int = 0
    """Host pairs that lost packets so, the least recently used first."""
    verdicts: int = 0
    """Windows whose probability reached the threshold."""
    suppressed: int = 0
    """Of them, those that a rule of `policy.suppress` silenced."""
    episodes: int = 0
    """Episodes opened."""
    folded_episodes: int = 0
    """Episodes that were not told by themselves but folded into another, because there were too many."""
    alerts_written: int = 0
    """Documents acknowledged by the sink."""
    alerts_duplicate: int = 0
    """Documents that were already there (409): a repeat after a restart."""
    flows_written: int = 0
    """Documents for hunting acknowledged by the sink."""
    flows_duplicate: int = 0
    """Documents for hunting that were already there (409): a repeat after a restart."""
    flows_capped: int = 0
    """Documents for hunting not made because there were too many in their minute."""
    verdicts_fed: int = 0
    """Lines written for Zeek to raise notices from."""
    es_retries: int = 0
    """Requests to Elasticsearch that have to be sent again."""
    dead_letters: int = 0
    """Documents that Elasticsearch refused for good, kept in the dead-letter file."""
    dead_letters_dropped: int = 0
    """Refused documents given up because the dead-letter files were full."""
    state_unsaved: int = 0
    """Times that the state file could not be written; the old one stands."""
    shed_lines: int = 0
    """Log lines passed over unread by the rule `limits.shed_load`."""
    shed_bytes: int = 0
    """Their size in bytes."""
    shed_packets: int = 0
    """Packets read but not judged by the rule `limits.shed_load`."""
    health_unsent: int = 0
    """Health documents that Elasticsearch did not take; they are not sent again."""

    # `suppressed` by rule, under its id and the beginning of its comment; not in `as_dict`, for its names are the site's.
    suppressed_by_rule: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int]:
        """Name to total, in the order above."""
        return {name: total for name, total in asdict(self).items() if name != "suppressed_by_rule"}


@dataclass(slots=True)
class Gauges:
    """How the sensor is now. A name's end is its unit; without one it counts things."""

    healthy: int = 0
    """1 where `/health` answers 200, 0 where it answers 503."""
    lag_seconds: float = 0.0
    """Age of the oldest log line not yet read, by this machine's clock; 0 where all is read."""
    lag_bytes: int = 0
    """Bytes in the logs not yet read."""
    sink_waiting_seconds: float = 0.0
    """How long the sink has been waiting for its place to write; 0 while it takes documents."""
    quiet_seconds: float = 0.0
    """Time since the pipeline last finished a step; it does so several times a second, also when there is nothing to read."""
    last_packet_timestamp_seconds: float = 0.0
    """Time of the last packet read, epoch; 0 before the first."""
    judged_timestamp_seconds: float = 0.0
    """The second up to which everything is judged and acknowledged, epoch; 0 before the first."""
    files: int = 0
    """Log files followed."""
    files_open: int = 0
    """Log files held open."""
    packets_held: int = 0
    """Packets held for later windows."""
    episodes_open: int = 0
    """Episodes open."""
    dead_letter_bytes: int = 0
    """Size of the dead-letter files; above 0 there is something for `packetclip redeliver`."""
    disk_free_bytes: int = 0
    """Room for this user where the state folder is."""
    shedding: int = 0
    """1 while load is shed by the rule `limits.shed_load`."""

    def as_dict(self) -> dict[str, float]:
        """Name to value, in the order above."""
        return asdict(self)
