"""Counters and gauges of the whole sensor, each with its meaning, for `/metrics`, the interval line and health documents.

One `Counters` is handed to every stage, so that nothing is dropped without being counted. A field's text is its description
everywhere: in Prometheus' HELP line and in docs/operations.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _metric(meaning: str) -> Any:
    """A field of `Counters` or `Gauges`, 0 at the start."""
    return field(default=0, metadata={"meaning": meaning})


def meanings(kind: type[Counters | Gauges]) -> dict[str, str]:
    """What each metric says, by name, in the order of definition."""
    return {metric.name: metric.metadata["meaning"] for metric in fields(kind) if "meaning" in metric.metadata}


@dataclass(slots=True)
class Counters:
    """Totals since the start; every field only rises. Counts of things, except where the name ends in a unit."""

    lines: int = _metric("Log lines read.")
    packets: int = _metric("Packet records read.")
    packets_cut: int = _metric("Packets of which more than 512 bytes were logged; the rest is not kept.")
    flows: int = _metric("Flow records read.")
    flows_dropped: int = _metric("Flow records dropped by the alerter: those beyond 10,000 of one second in one partition.")
    connections_skipped: int = _metric(
        "Connections that Zeek's script left out of the packet log, since a host got more than `max_new_connections` in a second."
    )
    rejects: int = _metric("Bad lines: not whole, not JSON, a field missing or wrong, too long.")
    rejects_unwritten: int = _metric("Bad lines that the rejects file could not take (disk full); counted in `rejects` as well.")
    connections: int = _metric("TCP connections that ended and in which something was acknowledged.")
    connections_one_way: int = _metric("Of them, those of which one side was never seen.")
    connections_with_gaps: int = _metric("Of them, those of which bytes are missing.")
    wrong_times: int = _metric("Packets put aside since their time was far from their neighbours'; in `rejects` as well.")
    copies: int = _metric("Packets left out as copies of one before, which a mirror of both directions or of two VLANs makes.")
    repeats: int = _metric(
        "Packets and flow rows that came again by Kafka, since a router or a shipper sent them again; left out."
    )
    late_packets: int = _metric(
        "Packets of a second that was already judged, so later than `lateness_s`; they are judged in the next one."
    )
    released_early: int = _metric("Times that packets were not held for all of `lateness_s` since there were too many of them.")
    seconds_split: int = _metric(
        "Seconds judged in parts since more packets waited for their end than `limits.packets_held` allows."
    )
    windows: int = _metric("Windows judged.")
    windows_skipped: int = _metric(
        "Windows not judged, since more than `limits.windows_per_second` were due in a second and others had more new packets."
    )
    encoded_rows: int = _metric("Distinct token rows that went through the encoder.")
    cached_rows: int = _metric("Token rows whose embedding came from the cache.")
    evicted: int = _metric("Packets dropped because more were held than `limits.packets_held` allows.")
    evicted_streams: int = _metric("Host pairs that lost packets in this way, the least recently used first.")
    evidence_evicted: int = _metric("Streams whose evidence was forgotten because there were too many, the least recent first.")
    evidence_late_flows: int = _metric("Flow rows read after the time from which evidence counts them; they count from then on.")
    verdicts: int = _metric("Windows whose probability reached the threshold.")
    suppressed: int = _metric("Of them, those that a rule of `policy.suppress` suppressed.")
    episodes: int = _metric("Episodes opened.")
    episodes_over_budget: int = _metric(
        "Of them, those beyond `policy.alerts_per_day`; below severity high they are written as events, not as alerts."
    )
    folded_episodes: int = _metric(
        "Episodes that were not reported by themselves but folded into another, because there were too many."
    )
    other_alerts: int = _metric("Rows of notice.log, and alert rows of eve.json, read for `other_alerts`.")
    other_alerts_unread: int = _metric("Lines of these logs that could not be read.")
    other_alerts_forgotten: int = _metric("Entries of them forgotten for newer ones.")
    alerts_written: int = _metric("Documents acknowledged by the sink.")
    alerts_duplicate: int = _metric("Documents that were already there (409): a repeat after a restart.")
    flows_written: int = _metric("Documents for hunting acknowledged by the sink.")
    flows_duplicate: int = _metric("Documents for hunting that were already there (409): a repeat after a restart.")
    flows_capped: int = _metric("Documents for hunting not made because there were too many in their minute.")
    verdicts_fed: int = _metric("Lines written for Zeek to raise notices from.")
    alerts_forwarded: int = _metric("Documents that a webhook or a syslog receiver acknowledged.")
    forward_retries: int = _metric("Documents for a webhook or syslog that have to be sent again.")
    es_retries: int = _metric("Requests to Elasticsearch that have to be sent again.")
    dead_letters: int = _metric("Documents that a receiver refused for good, kept in its dead-letter file.")
    dead_letters_dropped: int = _metric("Refused documents given up because the dead-letter files were full.")
    state_unsaved: int = _metric("Times that the state file could not be written; the old one stands.")
    shed_lines: int = _metric("Log lines passed over unread by the rule `limits.shed_load`.")
    shed_bytes: int = _metric("Their size in bytes.")
    shed_packets: int = _metric("Packets read but not judged by the rule `limits.shed_load`.")
    health_unsent: int = _metric("Health documents that Elasticsearch did not take; they are not sent again.")

    # `suppressed` by rule, under its id and the beginning of its comment; not in `as_dict`, for its names are the site's.
    suppressed_by_rule: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int]:
        """Name to total, in the order above."""
        return {name: getattr(self, name) for name in meanings(Counters)}


@dataclass(slots=True)
class Gauges:
    """How the sensor is now. A name's end is its unit; without one it counts things."""

    healthy: int = _metric("1 where `/health` answers 200, 0 where it answers 503.")
    lag_seconds: float = _metric("Age of the oldest log line not yet read, by this machine's clock; 0 where all is read.")
    lag_bytes: int = _metric("Bytes in the logs not yet read.")
    sink_waiting_seconds: float = _metric(
        "How long the sink has been waiting for its place to write; 0 while it takes documents."
    )
    quiet_seconds: float = _metric(
        "Time since the pipeline last finished a step; it does so several times a second, also when there is nothing to read."
    )
    last_packet_timestamp_seconds: float = _metric("Time of the last packet read, epoch; 0 before the first.")
    judged_timestamp_seconds: float = _metric(
        "The second up to which everything is judged and acknowledged, epoch; 0 before the first."
    )
    files: int = _metric("Log files followed.")
    files_open: int = _metric("Log files held open.")
    copies_share: float = _metric("Share of the last 5 minutes' packets that were copies, 0 to 1.")
    one_way_share: float = _metric("Share of the TCP connections ended in the last 5 minutes of which one side was not seen.")
    gaps_share: float = _metric("Share of the TCP connections ended in the last 5 minutes of which bytes are missing.")
    clock_offset_seconds: float = _metric(
        "Time of fresh log lines ahead of this machine's clock, of the source that is furthest off; below 0 they are behind."
    )
    packets_held: int = _metric("Packets held for later windows.")
    episodes_open: int = _metric("Episodes open.")
    budget_used_share: float = _metric(
        "Share of `policy.alerts_per_day` that the last day of event time has used, 0 to 1; 0 without a budget."
    )
    dead_letter_bytes: int = _metric("Size of the dead-letter files; above 0 there is something for `packetclip redeliver`.")
    disk_free_bytes: int = _metric("Room for this user where the state folder is.")
    shedding: int = _metric("1 while load is shed by the rule `limits.shed_load`.")

    def as_dict(self) -> dict[str, float]:
        """Name to value, in the order above."""
        return {name: getattr(self, name) for name in meanings(Gauges)}
