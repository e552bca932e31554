"""What `packetclip hunt` and `packetclip similar` found, for a terminal and as JSON.

Everything that comes from the network is shown as plain text, never as rich's markup, and with control characters escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.text import columns, printable
from packetclip_sensor.hunt.search import Found, Hit
from packetclip_sensor.hunt.text_encoder import EncodedSentence
from packetclip_sensor.view.document_access import sessions
from packetclip_sensor.view.terminal import console_for, style_of

OUTSTANDING = 0.95
"""A best hit that is not above so much of the sample is no find."""
ENOUGH = 100
"""Of fewer documents a best hit and its fellows are too large a part to stand out from."""


def show(found: Found, file: TextIO, missions: Missions, *, asked: str, encoded: EncodedSentence | None = None) -> None:
    """Print the hits as a table, and how far they are to be trusted."""
    console = console_for(file)

    def say(words: str, style: str = "") -> None:
        console.print(Text(printable(words), style=style), soft_wrap=not columns(file))

    if not found.hits:
        say(f"Nothing is stored that fits the filters ({found.stored:,} documents).")
        return
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False, header_style="bold")
    for name, style in (
        ("Time (UTC)", {}),
        ("Score", {}),
        ("Looks like", {}),
        ("What happened", {"ratio": 1, "overflow": "fold"}),
    ):
        table.add_column(name, no_wrap=not style, **style)  # type: ignore[arg-type]
    for hit in found.hits:
        table.add_row(*_cells(hit, missions))
    console.print(table)
    say(_score_words(found, asked))
    say(f"Next: packetclip similar {printable(found.hits[0].id, 40)}, or another id, finds what is like it")
    if encoded is not None:
        say("Read as: " + "; ".join(f"“{text}” ({weight:.0%})" for text, weight in encoded.read_as))
    for doubt in doubts(found, encoded):
        say(doubt, "yellow")


def doubts(found: Found, encoded: EncodedSentence | None) -> list[str]:
    """Why the list may mean nothing; empty where there is no doubt."""
    out = []
    if encoded is not None and not encoded.familiar:
        out.append(
            f"Unlike every sentence of training (cosine with the nearest {encoded.likeness:.2f}): the list is a guess. "
            "Use words of network traffic."
        )
    if encoded is not None and encoded.unknown:
        words = ", ".join(f"“{word}”" for word in encoded.unknown)
        out.append(
            f"No text of training has {words}: what that means may be outside of what the model knows, and the list shows "
            "traffic that fits the rest."
        )
    if encoded is not None and found.hits and len(found.sample) >= ENOUGH and found.hits[0].above < OUTSTANDING:
        out.append("Not even the best stands out from what is stored: probably nothing of the kind is there.")
    return out


def as_json(found: Found, *, asked: str, encoded: EncodedSentence | None = None) -> bytes:
    """One JSON object, for scripts."""
    sample = found.sample
    made: dict[str, Any] = {
        "asked": asked,
        "stored": found.stored,
        "sample": {"count": len(sample), "median": _at(found, 0.5), "p95": _at(found, 0.95)} if len(sample) else {"count": 0},
        "doubts": doubts(found, encoded),
        "hits": [
            {
                "id": hit.id,
                "cosine": round(hit.cosine, 4),
                "above_share_of_sample": round(hit.above, 4),
                "more_of_the_same": hit.more,
                "document": dict(hit.source),
            }
            for hit in found.hits
        ],
    }
    if encoded is not None:
        made["sentence"] = {
            "read_as": [{"text": text, "weight": round(weight, 4)} for text, weight in encoded.read_as],
            "likeness": round(encoded.likeness, 4),
            "familiar": encoded.familiar,
            "unknown": encoded.unknown,
        }
    return msgspec.json.encode(made)


def _cells(hit: Hit, missions: Missions) -> list[Text]:
    ours: Mapping[str, Any] = hit.source.get("packetclip", {})
    when = str(hit.source.get("@timestamp", "?"))
    mission = str(ours.get("mission", "?"))
    episode = ours.get("episode", {}).get("id")
    words = hit.source.get("event", {}).get("reason") if episode else hit.source.get("message")
    what = Text(printable(str(words or "?"), 600))
    notes = [f"episode {printable(str(episode), 40)}"] if episode else []
    notes += [] if episode else [f"id {printable(hit.id, 40)}"]
    uids = sessions(hit.source)
    if uids and not episode:
        notes.append(f"uid {printable(str(uids[0]), 40)}" + (f" +{len(uids) - 1}" if len(uids) > 1 else ""))
    if hit.more:
        notes.append(f"{hit.more} more of {'this episode' if episode else 'these hosts'} near it")
    what.append(f" [{', '.join(notes)}]" if notes else "", style="dim")
    return [
        Text(f"{printable(when[:10], 10)}\n{printable(when[11:19], 8)}"),
        Text(f"{hit.cosine:+.2f}\nabove {_percent(hit.above)}"),
        Text(printable(str(ours.get("class", "?")), 20), style="bold")
        + Text(
            f"\n{printable(mission, 16)} {min(float(ours.get('probability', 0.0)), 0.99):.2f}",
            style=style_of(mission, missions),
        ),
        what,
    ]


def _score_words(found: Found, asked: str) -> str:
    words = (
        f"Score: cosine with {asked}, 1 at best, and the share of {len(found.sample):,} of {found.stored:,} stored documents, "
    )
    words += "drawn at random, that are less alike"
    return f"{words} (their median {_at(found, 0.5):+.2f})." if len(found.sample) else f"{words}."


def _at(found: Found, share: float) -> float:
    return round(float(found.sample[min(int(share * len(found.sample)), len(found.sample) - 1)]), 4)


def _percent(share: float) -> str:
    return "all" if share == 1 else f"{min(share * 100, 99.9):.1f} %"
