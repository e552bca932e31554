"""Which techniques were seen, and how often, as a layer of MITRE's ATT&CK Navigator.

Source: github.com/mitre-attack/attack-navigator, layers/spec/v4.5/layerformat.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from packetclip_sensor.common.text import counted, printable
from packetclip_sensor.view.document_access import Document, technique, text


def layer(documents: Sequence[Document], title: str) -> dict[str, Any]:
    """The layer of episodes, of each one document: a technique's score is their number."""
    seen: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if name := technique(document)[0]:
            seen[name].append(document)
    return {
        "name": title,
        "versions": {"layer": "4.5"},
        "domain": "enterprise-attack",
        "description": f"{counted(len(documents), 'episode')} of PacketCLIP; a score is a number of episodes.",
        "techniques": [
            {"techniqueID": name, "score": len(found), "enabled": True, "comment": _comment(found)}
            for name, found in sorted(seen.items())
        ],
        "gradient": {"colors": ["#ffe766", "#ff6666"], "minValue": 0, "maxValue": max(map(len, seen.values()), default=1)},
        "sorting": 3,
    }


def _comment(documents: Sequence[Document]) -> str:
    classes = Counter(printable(text(document, "packetclip.class"), 100) for document in documents)
    return ", ".join(f"{name} ({count})" for name, count in classes.most_common())
