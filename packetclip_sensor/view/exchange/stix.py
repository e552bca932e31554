"""Alerts as a STIX 2.1 bundle: each episode is a sighting of an ATT&CK technique, with what was observed.

Ids are made from the content, so the same alerts give the same ids, and a platform that imports a bundle again doubles nothing.
Source: OASIS STIX 2.1, docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html; ids of observables: section 2.9.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from packetclip_sensor.records.addresses import address
from packetclip_sensor.view.document_access import Document, number, strings, technique, text

OBSERVABLES = uuid.UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")
"""The specification's namespace for ids of observables."""
OURS = uuid.uuid5(uuid.NAMESPACE_URL, "packetclip:stix")
MOST = 999_999_999
"""Largest count that STIX allows."""
Thing = dict[str, Any]


def bundle(documents: Sequence[Document], title: str) -> Thing:
    """The bundle of episodes, of each one document. What names no technique is left out."""
    things: dict[str, Thing] = {}

    def add(thing: Thing) -> str:
        things.setdefault(thing["id"], thing)
        return str(thing["id"])

    for document in documents:
        if not technique(document)[0]:
            continue
        first, last = text(document, "event.start"), text(document, "event.end")
        name = text(document, "observer.name") or "packetclip"
        sensor = add(_domain("identity", name, first, name=name, identity_class="system"))
        seen = add(_technique(document, first))
        observed = [add(thing) for thing in _traffic(document)]
        if not observed:
            continue
        episode = text(document, "packetclip.episode.id") or text(document, "event.id")
        count = max(1, min(MOST, int(number(document, "packetclip.episode.packets"))))
        facts = {"first_observed": first, "last_observed": last, "number_observed": count, "object_refs": observed}
        data = add(_domain("observed-data", episode, first, created_by_ref=sensor, **facts))
        add(
            _domain(
                "sighting",
                episode,
                first,
                created_by_ref=sensor,
                modified=text(document, "@timestamp"),
                description=text(document, "event.reason"),
                first_seen=first,
                last_seen=last,
                count=1,
                confidence=max(0, min(100, round(100 * number(document, "packetclip.probability")))),
                sighting_of_ref=seen,
                observed_data_refs=[data],
                where_sighted_refs=[sensor],
                external_references=[{"source_name": "packetclip", "external_id": text(document, "event.id")}],
            )
        )
    whole = json.dumps([*things.values()], sort_keys=True)
    return {"type": "bundle", "id": f"bundle--{uuid.uuid5(OURS, title + whole)}", "objects": [*things.values()]}


def _domain(kind: str, key: str, at: str, **facts: Any) -> Thing:
    """An object with the properties that all but observables must have; `at` is when it was made."""
    id_ = f"{kind}--{uuid.uuid5(OURS, f'{kind} {key}')}"
    return {"type": kind, "spec_version": "2.1", "id": id_, "created": at, "modified": at} | facts


def _observable(kind: str, **facts: Any) -> Thing:
    """An observable; its id is made from its facts."""
    content = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"type": kind, "spec_version": "2.1", "id": f"{kind}--{uuid.uuid5(OBSERVABLES, content)}"} | facts


def _technique(document: Document, at: str) -> Thing:
    id_, name = technique(document)
    of = "threat.technique.subtechnique" if "." in id_ else "threat.technique"
    reference = {"source_name": "mitre-attack", "external_id": id_}
    if url := text(document, f"{of}.reference"):
        reference["url"] = url
    return _domain("attack-pattern", id_, at, name=name or id_, external_references=[reference])


def _traffic(document: Document) -> list[Thing]:
    """Addresses of both sides, and the traffic between the first of each."""
    found: list[Thing] = []
    sides: dict[str, Any] = {}
    for side, end in (("source", "src"), ("destination", "dst")):
        for value in strings(document, f"{side}.ip"):
            if host := address(value):
                found.append(_observable(f"ipv{host.version}-addr", value=value))
                sides.setdefault(f"{end}_ref", found[-1]["id"])
        port = number(document, f"{side}.port")
        if port:
            sides[f"{end}_port"] = int(port)
    protocols = strings(document, "network.type")[:1] + strings(document, "network.transport")
    if {"src_ref", "dst_ref"} & sides.keys() and protocols:
        found.append(_observable("network-traffic", protocols=protocols, **sides))
    return found
