"""What to paste next: a Wireshark filter, a KQL query, a search of Zeek's or Suricata's logs, a suppression rule.

Documents are of unknown origin, and these texts go into shells and configurations: only addresses, numbers and ids of the right
form enter them, and what is quoted is escaped.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.common.text import printable
from packetclip_sensor.records.addresses import address
from packetclip_sensor.view.document_access import Document, number, strings, text, when

MOST_HOSTS = 20
"""A side with more hosts, or with some that the document does not list, is not named in filter and rule: the other side is."""


TRY = "packetclip replay PATH --config sensor.yaml --out try.ndjson"


class Step(NamedTuple):
    """What a text is for, and the text."""

    title: str
    text: str


def steps(document: Document) -> list[Step]:
    """What can be asked or changed because of this alert; a text for which the document lacks the facts is left out."""
    rule = _rule(document)
    found = [
        Step("Wireshark display filter, for a capture of that time", _wireshark(document)),
        Step("KQL for Kibana, data view logs-*", _kql(document)),
        Step(
            "Zeek's logs, in their folder (none has the uids of a replayed capture)",
            _search(document, "zeek.session_id", "{}", "*.log*"),
        ),
        Step("Suricata's log, in its folder", _search(document, "suricata.eve.flow_id", '"flow_id":({})[,}}]', "eve*.json*")),
        Step("If it is harmless: a rule for suppress.yaml (in sensor.yaml: policy: {suppress: suppress.yaml})", rule),
        Step("What the rule leaves, of finished logs or a capture", rule and TRY),
    ]
    return [step for step in found if step.text]


def _wireshark(document: Document) -> str:
    parts = []
    for side in ("source", "destination"):
        if hosts := [f"{'ipv6' if ':' in host else 'ip'}.addr == {host}" for host in _hosts(document, side)]:
            parts.append(hosts[0] if len(hosts) == 1 else f"({' || '.join(hosts)})")
    port, slash, proto = _service(document).partition("/")
    parts += [f"{proto}.port == {port}"] if slash else []
    first, last = (when(document, f"packetclip.episode.{name}") for name in ("first", "last"))
    parts += [f"frame.time_epoch >= {math.floor(first)}", f"frame.time_epoch <= {math.ceil(last)}"] if first else []
    return " && ".join(parts)


def _kql(document: Document) -> str:
    """The documents of the episode, and all other logs of its connections."""
    found = []
    for field in ("packetclip.episode.id", "network.community_id"):
        quoted = ['"' + re.sub(r'(["\\])', r"\\\1", printable(value)) + '"' for value in strings(document, field) if value]
        found += [f"{field}: ({' or '.join(quoted)})"] if quoted else []
    return " or ".join(found)


def _search(document: Document, field: str, form: str, files: str) -> str:
    ids = [value for value in strings(document, field) if re.fullmatch(r"[0-9A-Za-z]{1,40}", value)]
    return f"zgrep -E '{form.format('|'.join(ids))}' {files}" if ids else ""


def _rule(document: Document) -> str:
    sides = {side: _hosts(document, side) for side in ("source", "destination")}
    if not any(sides.values()):
        return ""  # it would switch off a whole mission
    named = sides | {"service": [_service(document)], "mission": [text(document, "packetclip.mission")]}
    return suppression_rules.proposed(when(document, "packetclip.episode.last"), "", **named)


def _hosts(document: Document, side: str) -> list[str]:
    """All hosts of a side; none where there are many, or one is no address."""
    found = strings(document, f"{side}.ip")
    count = max(len(found), number(document, f"packetclip.episode.{side}_count"))
    hosts = [] if count > min(len(found), MOST_HOSTS) else [address(host) for host in found]
    return [] if None in hosts else [str(host) for host in hosts]


def _service(document: Document) -> str:
    """As rules have it, where the episode has one: 80/tcp or icmp."""
    proto, port = strings(document, "network.transport"), int(number(document, "destination.port"))
    if proto == ["icmp"]:
        return "icmp"
    return f"{port}/{proto[0]}" if proto in (["tcp"], ["udp"]) and 0 < port < 65536 else ""
