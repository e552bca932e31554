"""Facts to sentences: what an alert says, and the texts that packets are trained with.

Nothing here judges: no word says "attack" but the title's class name, which the model gave. Every number in a sentence is a fact
of `window_statistics.py` or a column of the flow row, and what is None is left unsaid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from packetclip_sensor.common.hyperloglog import EXACT
from packetclip_sensor.common.missions import Mission
from packetclip_sensor.records import Alert, Episode, Flow, Packet, Verdict, addresses
from packetclip_sensor.windows.window_statistics import PROTOCOL_NAMES, Description, Fact


def address(text: str) -> str:
    """An address as it may stand in a sentence: other characters than those of addresses become "?", and it is cut to 45."""
    clean = re.sub(r"[^0-9A-Fa-f:.]", "?", text[:45])
    return str(addresses.address(clean) or clean or "an unknown host")


def sentence(
    measured: Mapping[str, Fact], sources: Sequence[str], destinations: Sequence[str], *, details: Sequence[str] | None = None
) -> str:
    """One sentence of facts, with addresses, ports and numbers as measured, of a window or of a whole episode.

    Args:
        details: what is said behind the semicolon; None for what a window's facts say.
    """
    value = _numbers(measured)
    source, destination = _hosts(sources, value("distinct_orig_h")), _hosts(destinations, value("distinct_resp_h"))
    count, sent, seconds = value("packets") or 0, value("orig_packets"), value("duration_s")
    if not count:
        return f"No packet of {source} to {destination} stands in the window."
    kind = PROTOCOL_NAMES.get(str(measured.get("proto")), "IP")
    kind = "" if kind == "mixed" else f"{kind} "
    time = f" in {_seconds(seconds)}" if count > 1 and seconds is not None else ""
    ports, port = value("distinct_resp_p") or 0, value("top_resp_p")
    target = destination
    if ports > 1:
        target = f"{_many(ports)} ports of {destination}"
    elif ports and port is not None:
        target = f"port {port} of {destination}"
    if sent == 0:
        out = f"{destination} sent {_packets(count, kind)} back to {source}{time}"
    elif sent is None or sent == count:
        out = f"{source} sent {_packets(count, kind)}{time} to {target}"
    else:
        out = f"{source} sent {_packets(sent, kind)}{time} to {target} and got {count - sent:,} back"
    details = _details(measured, count) if details is None else details
    return f"{out}; {_and(details)}." if details else f"{out}."


def trail(verdict: Verdict) -> str:
    """What to add to a verdict's sentence where it rests on more windows than its own; "" where it does not."""
    found = verdict.trail
    if found is None or found.windows < 2:
        return ""
    span = f"{found.seconds} s" if found.seconds < 120 else f"{found.seconds / 60:.0f} minutes"
    return f" {found.windows} windows in {span} point to {verdict.mission}, each with about {found.each:.2f}."


LEAST_RATED_S = 0.1
"""Packets of a shorter time, which a network card hands over together, have no rate."""
_SHARES = (
    ("odd_flags_share", "TCP", "carries TCP flags that no connection uses", "carry TCP flags that no connection uses",
     "carry unusual flags"),
    ("syn_share", "TCP", "carries SYN alone", "carry SYN alone", "are SYN alone"),
    ("rst_share", "TCP", "carries RST", "carry RST", "are resets"),
    ("push_share", "TCP", "", "", "push data"),
    ("icmp_echo_share", "ICMP", "is an echo request", "are echo requests", "are echo requests"),
    ("icmp_unreachable_share", "ICMP", "says destination unreachable", "say destination unreachable",
     "say destination unreachable"),
)  # fmt: skip
"""Shares worth saying, most telling first: fact, protocol, the words of a sentence for one packet and for many, and those of a
window's coarse text; what every login and page has is no detail of a sentence."""


def _details(measured: Mapping[str, Fact], count: int) -> list[str]:
    """What else is worth saying, at most three clauses, the same for the same facts."""
    proto, value, out = measured.get("proto"), _numbers(measured), list[str]()
    for name, transport, of_one, of_many, _ in _SHARES:
        share = value(name)
        if share is not None and share >= 0.15 and of_one:
            who = "all" if share == 1 else _percent(share)
            who += f" of the {transport} packets" if proto == "mixed" else ""
            out.append(f"it {of_one}" if count == 1 else f"{who} {of_many}")
    out = out[:2]
    connections, completed, payload = value("distinct_uid"), value("completed_connections"), value("payload_mean_bytes")
    if completed is not None and connections:
        if completed == 0:
            out.append("no connection was completed")
        elif connections > 1:
            many = "both" if connections == 2 else f"all {connections}"
            out.append(f"{many if completed == connections else f'{completed} of {connections}'} connections were completed")
    elif proto in ("udp", "icmp") and value("reply_share") == 0:
        out.append("nothing came back")
    if payload is not None and len(out) < 3:
        none = "it has no payload" if count == 1 else "no packet carries payload"
        some = f"its payload is {payload:.0f} bytes" if count == 1 else f"the mean payload is {payload:.0f} bytes"
        out.append(some if payload >= 0.5 else none)
    return out


def _numbers(measured: Mapping[str, Fact]) -> Callable[[str], Any]:
    """The number that a fact has, by its name; None where it was not measured."""
    return lambda name: value if isinstance(value := measured.get(name), int | float) else None


def _hosts(names: Sequence[str], count: int | None) -> str:
    names = [address(n) for n in names]
    count = count or len(names) or 1
    if count > 2 or (count == 2 and len(names) < 2):
        return f"{_many(count)} hosts" + (f" ({', '.join(names[:2])}, ...)" if names else "")
    return _and(names[:count]) if names else "one host"


def _packets(count: int, kind: str) -> str:
    return f"one {kind}packet" if count == 1 else f"{count:,} {kind}packets"


def _seconds(seconds: float) -> str:
    if seconds < 0.001:
        return "under 1 ms"
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _percent(share: float) -> str:
    """Rounded, but never to 100 % or 0 % what is not all or nothing."""
    return f"{min(max(round(share * 100), 1), 99)} %"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _bucket(value: float, steps: Iterable[tuple[float, str]], above: str) -> str:
    return next((word for limit, word in steps if value < limit), above)


def _some(count: int, one: str) -> str:
    return f"one {one}" if count == 1 else f"{_bucket(count, ((5, 'a few'), (15, 'several')), 'many')} {one}s"


def window_text(measured: Mapping[str, Fact]) -> str:
    """The window in coarse words, without address, port or exact number: windows that are alike have the same text.

    It is what packets are paired with in contrastive training, so it says only what masked tokens and relations can show.
    """
    value = _numbers(measured)
    count, rate, pause = value("packets") or 0, value("rate_pps"), value("max_gap_s")
    parts = [_some(count, f"{PROTOCOL_NAMES.get(str(measured.get('proto')), 'IP')} packet") if count else "no packet"]
    if rate is not None and count > 2:
        steps = ((1, "slowly"), (10, "unhurriedly, under ten a second"), (100, "steadily, under a hundred a second"),
                 (1000, "fast, hundreds a second"))  # fmt: skip
        parts.append(f"sent {_bucket(rate, steps, 'very fast, over a thousand a second')}")
    if pause is not None and pause >= 2:
        parts.append("with pauses of seconds")
    sources, targets = value("distinct_orig_h"), value("distinct_resp_h")
    ports, connections = value("distinct_resp_p"), value("distinct_uid")
    if sources and targets:
        to = f"{_some(ports, 'port')} of " if ports else ""
        parts.append(f"from {_some(sources, 'host')} to {to}{_some(targets, 'host')}")
    if connections:
        single = (value("one_packet_connections_share") or 0) >= 0.8 and connections > 1
        parts.append(f"in {_some(connections, 'connection')}" + (" of mostly a single packet" if single else ""))
    flags, more, completed = list[str](), list[str](), value("completed_connections")
    for name, _, _, _, coarse in _SHARES:
        if (share := value(name)) is not None and share >= 0.1:
            flags.append(f"{_bucket(share, ((0.4, 'some'), (0.9, 'most')), 'nearly all')} {coarse}")
    if completed is not None and connections:
        words: tuple[tuple[float, str], ...] = (
            (0.01, "no connection is"),
            (0.5, "few connections are"),
            (0.99, "most connections are"),
        )
        flags.append(f"{_bucket(completed / connections, words, 'every connection is')} completed")
    if flags:
        more.append(_and(flags))
    if (payload := value("payload_mean_bytes")) is not None:
        more.append(_bucket(payload, ((0.5, "no"), (16, "tiny"), (100, "small"), (500, "medium")), "large") + " payload")
    if (replies := value("reply_share")) is not None:
        words = ((0.001, "no answer comes"), (0.25, "few answers come"), (0.7, "answers come"), (0.999, "mostly answers"))
        more.append(_bucket(replies, words, "answers only"))
    out = ", ".join(parts)
    return f"{out[0].upper()}{out[1:]}" + (f"; {'; '.join(more)}." if more else ".")


# --- flows ---

_STATES = {
    "S0": "the attempt was not answered",
    "S1": "it was established and not yet closed",
    "SF": "it was established and closed normally",
    "REJ": "the attempt was rejected",
    "S2": "the originator tried to close it and the responder did not answer",
    "S3": "the responder tried to close it and the originator did not answer",
    "RSTO": "the originator reset it",
    "RSTR": "the responder reset it",
    "RSTOS0": "the originator sent SYN and then a reset, without an answer",
    "RSTRH": "the responder sent SYN-ACK and then a reset, without SYN seen",
    "SH": "the originator sent SYN and then FIN, without an answer",
    "SHR": "the responder sent SYN-ACK and then FIN, without SYN seen",
    "OTH": "its beginning was not seen",
}
"""Zeek's conn_state in words. Source: base/protocols/conn/main.zeek."""


def flow_text(flow: Flow) -> str:
    """A flow row as a template sentence (the paper's text of tabular columns), without addresses; unset columns are left out."""
    kind = PROTOCOL_NAMES.get(flow.proto, "IP")
    service = re.sub(r"[^a-z0-9_,-]", "", (flow.service or "").lower())[:40].replace(",", " and ")
    out = f"{'An' if kind in ('ICMP', 'IP') else 'A'} {kind} {'connection' if kind == 'TCP' else 'exchange'}"
    out += f" with service {service}" if service else ""
    out += f" lasted {_seconds(flow.duration)}" if flow.duration is not None else " was seen"
    out += "" if flow.final else " so far"
    parts = []
    if flow.conn_state in _STATES and kind == "TCP":
        parts.append(_STATES[flow.conn_state])
    for who, pkts, load, size, iat in (
        ("the originator", flow.orig_pkts, flow.orig_bytes, flow.orig_size_mean, flow.orig_iat_mean),
        ("the responder", flow.resp_pkts, flow.resp_bytes, flow.resp_size_mean, flow.resp_iat_mean),
    ):
        said = [] if pkts is None else [_packets(pkts, "")] if pkts else ["nothing"]
        said += [f"{load} bytes of payload"] if load is not None and pkts != 0 else []
        said = [f"{who} sent {' with '.join(said)}"] if said else []
        said += [f"{size:.0f} bytes a packet on average"] if size is not None and pkts != 0 else []
        said += [f"one every {_seconds(iat)}"] if iat is not None and pkts != 0 else []
        if said and said[0].startswith(who):
            parts.append(", ".join(said))
    counted = (("SYN", flow.syn), ("ACK", flow.ack), ("FIN", flow.fin), ("RST", flow.rst), ("PSH", flow.psh), ("URG", flow.urg))
    named = [f"{n} {name}" for name, n in counted if n]
    if named:
        parts.append(f"its flags count {_and(named)}")
    counts = (
        (flow.login_failures, flow.login_attempts, "log-ins were refused"),
        (flow.requests_unfinished or None, flow.requests, "requests were not finished"),
        (flow.requests_alike if (flow.requests or 0) > 1 else None, flow.requests, "requests were alike"),
    )
    parts += [f"{some} of {whole} {what}" for some, whole, what in counts if some is not None and whole]
    if flow.dns_queries and flow.dns_names:
        parts.append(f"{flow.dns_queries} queries asked for {flow.dns_names} {'name' if flow.dns_names == 1 else 'names'}")
    if flow.missed_bytes:
        parts.append(f"{flow.missed_bytes} bytes were missed")
    return f"{out}; {'; '.join(parts)}." if parts else f"{out}."


# --- alerts ---


def title(episode: Episode, mission: Mission, klass: str) -> str:
    """Short alert title, which Elastic Security takes as the rule's name: "SYN flood from 10 hosts against 192.0.2.10"."""
    noun = (mission.klass(klass) or mission).title
    many_sources = max(episode.source_count, len(episode.sources))
    many_targets = max(episode.destination_count, len(episode.destinations))
    by = f"from {_many(many_sources)} hosts" if many_sources > 1 else f"by {address(episode.sources[0])}"
    on = f"{_many(many_targets)} hosts" if many_targets > 1 else address(episode.destinations[0])
    joined = mission.one_target if episode.scope == "source" and many_targets <= 1 else "against"
    return f"{noun} {by} {joined} {on}"


NAMED = 3
"""Rules of other engines that a sentence names."""


def _many(count: int) -> str:
    return f"about {count:,}" if count > EXACT else f"{count:,}"  # above it an estimate


def reason(alert: Alert) -> str:
    """The whole episode in one sentence, all of whose numbers are fields of `packetclip.episode`, and how much the log lacks."""
    episode, facts = alert.episode, alert.why.facts
    skipped, host = episode.connections_skipped, address(episode.destinations[0])
    if not episode.connections:  # nothing was counted: a state saved before there were totals
        said = alert.why.reason
    else:
        said = sentence(
            {
                "packets": episode.packets,
                "orig_packets": episode.sent_packets,
                "duration_s": episode.last - episode.first,
                "distinct_orig_h": max(episode.source_count, len(episode.sources)),
                "distinct_resp_h": max(episode.destination_count, len(episode.destinations)),
                "distinct_resp_p": episode.ports,
                "top_resp_p": facts.get("top_resp_p") if facts.get("distinct_resp_p") == 1 else None,
                "proto": facts.get("proto"),
            },
            episode.sources,
            episode.destinations,
            details=_totals(episode),
        )
    if alert.state != "close":
        said = f"So far, {said}"
    if skipped:
        more = f"Zeek left {skipped:,} more {'connection' if skipped == 1 else 'connections'} to {host} out of the log"
        said = f"{said} These are the least numbers: {more}."
    if alert.others:
        fired = _and([f"{fired.row.engine} {fired.row.rule[:60]}" for fired in alert.others[:NAMED]])
        said = f"{said} {fired} fired on these hosts meanwhile."
    return said


def _totals(episode: Episode) -> list[str]:
    """What else the whole episode comes to."""
    out = []
    if episode.connections > 1:
        out.append(f"{_many(episode.connections)} connections" + (" at least" if episode.connections_skipped else ""))
    if (rate := rate_of(episode)) is not None and episode.packets > 1:
        out.append(f"{rate:,.0f} packets a second" if rate >= 10 else f"{rate:.1f} packets a second")
    return [*out, f"{episode.bytes:,} bytes"]


def rate_of(episode: Episode) -> float | None:
    """Packets a second over the whole episode; None where it was too short for a rate."""
    seconds = episode.last - episode.first
    return episode.packets / seconds if seconds >= LEAST_RATED_S else None


def packet_reason(packets: Sequence[Packet], window: Description, at: int) -> str:
    """What the record says of an evidence packet: "SYN to port 8080, the 14th new port of the window".

    Payload of a known protocol is named: "PSH-ACK to port 80 with 80 bytes of payload: HTTP GET request for a login".

    Args:
        packets: the window, oldest first, and what it was described as, with the content of the packet number `at`.
    """
    packet, before, kind = packets[at], packets[:at], window.kinds[at]
    out = kind + _side(packet)
    if payload := window.payload_bytes[at]:
        content = window.known[at]
        out += f" with {payload} bytes of payload" + (f": {content}" if content else "")
    transport = packet.proto in ("tcp", "udp")
    orders = [
        (_new({(p.resp_h, p.resp_p) for p in before}, (packet.resp_h, packet.resp_p)) if transport else 0, "new port"),
        (_new({p.resp_h for p in before}, packet.resp_h), "new destination"),
        (_new({p.orig_h for p in before}, packet.orig_h), "new source"),
        (_new({p.uid for p in before}, packet.uid), "new connection"),
    ]
    most = max(order for order, _ in orders)
    if most > 1:
        # A new port, destination or source says more than the new connection that comes with it, unless it is rare.
        order, what = next(o for o in (orders[1], orders[0], *orders[2:]) if o[0] > 1 and o[0] * 3 >= most)
        return f"{out}, the {_ordinal(order)} {what} of the window"
    same = sum(p.is_orig == packet.is_orig and k == kind for p, k in zip(before, window.kinds, strict=False)) + 1
    return f"{out}, the {_ordinal(same)} of its kind in the window" if same > 1 else out


def _side(packet: Packet) -> str:
    if packet.proto not in ("tcp", "udp"):
        return "" if packet.is_orig else " in answer"
    return f" to port {packet.resp_p}" if packet.is_orig else f" back from port {packet.resp_p}"


def _new(seen: set[Any], value: object) -> int:
    return 0 if value in seen else len(seen) + 1


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
