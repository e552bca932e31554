"""`python -m training.lab.card lab --out docs`: the data card of recorded captures, in Markdown with a figure.

    python -m training.lab.card lab lab-unseen lab-evade --out docs

Counts captures, packets, flows and tools of each class, and what the networks were like: address plans, MTUs, TTLs, links, IPv6.
Packets and flows of a class are counted in the logs that `training.data.replay` wrote (FOLDER/logs), by the labels of training.
"""

import argparse
import gzip
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import track

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.pairs.labels import Labels
from training.common import DataError, argument, command
from training.missions import CLASS_MISSION

LOG = "packetclip_packet.log"
PLANS = {"10": "10/8", "172": "172.16/12", "192": "192.168/16", "100": "100.64/10"}
TTLS = ((32, "up to 32"), (64, "33 to 64"), (128, "65 to 128"), (255, "129 to 255"))
"""A host beyond a router has a TTL below those of 32, 64, 128 and 255 that systems start with."""


class Line(msgspec.Struct, rename={"orig_h": "id.orig_h", "resp_h": "id.resp_h", "size": "len"}):
    """What the card needs of a line of the packet log."""

    ts: float
    uid: str
    orig_h: str
    resp_h: str
    size: int


@dataclass
class Counted:
    """One capture; `packets`, `octets` and `flows` by class are empty without logs. A flow is of its first packet's class."""

    labels: dict[str, Any]
    packets: Counter[str] = field(default_factory=Counter)
    octets: Counter[str] = field(default_factory=Counter)
    flows: Counter[str] = field(default_factory=Counter)
    six: int = 0
    """Packets over IPv6."""

    @property
    def plan(self) -> dict[str, Any]:
        """How it was made; empty where nobody wrote it down."""
        return self.labels.get("plan") or {}

    @property
    def hosts(self) -> list[dict[str, Any]]:
        """The hosts of its plan."""
        return list(self.plan.get("hosts", []))

    @property
    def classes(self) -> list[str]:
        """Its attacks' classes, in order, each once; Benign where it has none."""
        return list(dict.fromkeys(run["label"] for run in self.labels["intervals"])) or ["Benign"]


def found(folder: Path) -> list[tuple[Path, Path]]:
    """(labels file, folder of its logs) of every capture of the lab (NAME.labels.json) or of `keep` (NAME/labels.json)."""
    lab = [(path, folder / "logs" / path.name.removesuffix(".labels.json")) for path in sorted(folder.glob("*.labels.json"))]
    return lab or [(path, path.parent) for path in sorted(folder.glob("*/labels.json"))]


def count(path: Path, logs: Path) -> Counted:
    """Read one capture's labels and, where they are there, its logs.

    Raises:
        LogFormatError: labels or a line of the log cannot be read.
    """
    truth = Labels.load(path, CLASS_MISSION)
    made = Counted(json.loads(path.read_bytes()))
    log = next((logs / name for name in (LOG, f"{LOG}.gz") if (logs / name).exists()), None)
    if log is None:
        return made
    decode, seen = msgspec.json.Decoder(Line).decode, set()
    with gzip.open(log) if log.suffix == ".gz" else log.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = decode(text)
            except msgspec.DecodeError as err:
                raise LogFormatError(f"{log}: line {number}: {err}; replay the capture anew") from err
            attack = truth.of(line)  # type: ignore[arg-type] - it has the three fields that labels look at
            label = attack.label if attack else "Benign"
            made.packets[label] += 1
            made.octets[label] += line.size
            made.six += ":" in line.orig_h
            if line.uid not in seen:
                seen.add(line.uid)
                made.flows[label] += 1
    return made


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)]) + "\n"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _classes(captures: list[Counted]) -> str:
    packets = sum((c.packets for c in captures), Counter[str]())
    flows = sum((c.flows for c in captures), Counter[str]())
    rows = []
    for label in CLASS_MISSION:
        tools = {run["tool"] for c in captures for run in c.labels["intervals"] if run["label"] == label}
        having = sum(label in c.classes for c in captures)
        if having or packets[label]:
            numbers = [f"{packets[label]:,}", _share(packets[label], packets.total()), f"{flows[label]:,}"]
            rows.append([label, having, *numbers, len(tools) or "", "; ".join(sorted(tools))])
    return _table(["class", "captures", "packets", "share", "flows", "modes", "tools and modes"], rows)


def networks(captures: list[Counted]) -> dict[str, Counter[str]]:
    """How many captures (MTU, address plan) or hosts (TTL, link, TCP settings) had each value."""
    made: dict[str, Counter[str]] = {
        key: Counter() for key in ("MTU", "address plan", "TTL", "link", "ECN", "window scaling", "timestamps")
    }
    for capture in captures:
        if "mtu" in capture.plan:
            made["MTU"][str(capture.plan["mtu"])] += 1
        for host in capture.hosts:
            if host["name"] == "gw":
                continue
            if host["name"] == "web":
                made["address plan"][PLANS.get(host["addresses"][0].split(".")[0], "other")] += 1
            made["TTL"][next(name for most, name in TTLS if host["ttl"] <= most)] += 1
            made["link"][host["link"]["kind"] if host.get("link") else "none"] += 1
            for name, key in (("ECN", "ecn"), ("window scaling", "window_scaling"), ("timestamps", "timestamps")):
                made[name][str(host["sysctls"].get(f"net.ipv4.tcp_{key}", "default"))] += 1
    return made


def _order(key: str) -> tuple[int, str]:
    digits = "".join(c for c in key.split(" to ", maxsplit=1)[0] if c.isdigit())
    return (int(digits or 0) if key != TTLS[0][1] else 0, key)


def _links(captures: list[Counted]) -> str:
    links: dict[str, list[dict[str, Any]]] = {}
    for capture in captures:
        for host in capture.hosts:
            if host.get("link"):
                links.setdefault(host["link"]["kind"], []).append(host["link"])

    def span(kind: str, key: str, scale: float = 1) -> str:
        values = [scale * link[key] for link in links[kind]]
        return f"{min(values):.3g} to {max(values):.3g}"

    columns = (("delay_ms", 1.0), ("jitter_ms", 1.0), ("loss", 100.0), ("rate_mbit", 1.0))
    rows = [[kind, len(links[kind]), *(span(kind, *column) for column in columns)] for kind in sorted(links)]
    return _table(["link", "hosts", "delay one way, ms", "jitter, ms", "loss, %", "rate, Mbit/s"], rows) if rows else ""


def section(profile: str, captures: list[Counted]) -> str:
    """The card's section for one profile."""
    packets = sum(c.labels["packets"] for c in captures)
    logged, six = sum(c.packets.total() for c in captures), sum(c.six for c in captures)
    hours = sum(c.labels["end"] - c.labels["start"] for c in captures) / 3600
    dual = sum(any(":" in a for h in c.hosts for a in h["addresses"]) for c in captures)
    shaped = sum(any(h.get("link") for h in c.hosts) for c in captures)
    octets, flows = (sum(getattr(c, what).total() for c in captures) for what in ("octets", "flows"))
    habits = Counter(h for c in captures for h in {habit["name"] for habit in c.plan.get("habits", [])})
    facts = [
        f"{len(captures)} captures, {packets:,} packets recorded in {hours:.1f} hours of traffic",
        f"{logged:,} packets in {flows:,} flows in Zeek's logs, {octets / 1e6:,.0f} MB; the table counts these"
        if logged
        else "no logs, so no counts by class; run python -m training.data.replay",
        f"IPv6: {dual} captures have it, {_share(six, logged) or 'not counted'} of the packets",
        f"links: {shaped} captures have hosts behind one",
    ]
    seen = networks(captures)
    facts += [f"{name}: {', '.join(f'{key}: {of[key]}' for key in sorted(of, key=_order))}" for name, of in seen.items() if of]
    used = ", ".join(f"{name} {number}" for name, number in habits.most_common())
    return (
        f"## Profile `{profile}`\n\n{chr(10).join(f'- {fact}' for fact in facts)}\n\n{_classes(captures)}\n{_links(captures)}\n"
        f"Benign habits and the number of captures with each: {used}.\n"
    )


def draw(path: Path, profiles: dict[str, list[Counted]]) -> None:
    """Packets and flows of each class, MTUs, TTLs and links, a colour a profile; PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and a user's mistake should be reported at once

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    colours = ["#4477aa", "#ee6677", "#228833", "#ccbb44"]  # Paul Tol's bright scheme, readable with any colour vision
    panels = [("packets", True), ("flows", True), ("MTU", False), ("TTL", False), ("link", False), ("address plan", False)]
    figure, axes = plt.subplots(3, 2, figsize=(10, 8), layout="constrained")
    for (name, by_class), axis in zip(panels, axes.flat, strict=True):
        counted = {
            profile: sum((getattr(c, name) for c in captures), Counter[str]()) if by_class else networks(captures)[name]
            for profile, captures in profiles.items()
        }
        every = {key for of in counted.values() for key in of}
        keys = [c for c in CLASS_MISSION if c in every] if by_class else sorted(every, key=_order)
        width = 0.8 / len(counted)
        for index, (profile, of) in enumerate(counted.items()):
            at = [place + (index - (len(counted) - 1) / 2) * width for place in range(len(keys))]
            values = [100 * of[key] / of.total() if by_class and of else of[key] for key in keys]
            (axis.barh if by_class else axis.bar)(at, values, width, color=colours[index % 4], label=profile)
        if by_class:
            axis.set_yticks(range(len(keys)), keys)
            axis.invert_yaxis()
            axis.set_xscale("log")
            axis.set_xlim(0.05, 100)
            axis.set_xticks([0.1, 1, 10, 100], ["0.1 %", "1 %", "10 %", "100 %"])
        else:
            axis.set_xticks(range(len(keys)), keys, fontsize=8)
        unit = "" if by_class else " (captures)" if name in ("MTU", "address plan") else " (hosts)"
        axis.set_title(f"{name}{', share of each class' if by_class else ''}{unit}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


@command(
    argument("folders", type=Path, nargs="+", help="folders that python -m training.lab recorded into"),
    argument("--out", type=Path, default=Path("docs"), help="folder for data.md and img/data.png"),
)
def main(args: argparse.Namespace) -> None:
    """Exit codes: 0 written, 2 nothing to count."""
    captures = [one for folder in args.folders for one in found(folder)]
    if not captures:
        raise DataError(f"{', '.join(map(str, args.folders))}: no recorded capture; run python -m training.lab --out lab")
    profiles: dict[str, list[Counted]] = {}
    for path, logs in track(captures, "counting"):
        one = count(path, logs)
        profiles.setdefault(one.labels.get("profile", "?"), []).append(one)
    (args.out / "img").mkdir(parents=True, exist_ok=True)
    draw(args.out / "img" / "data.png", profiles)
    sections = "\n".join(section(profile, every) for profile, every in profiles.items())
    folders = " ".join(map(str, args.folders))
    text = f"""# Data card

For those who train or judge a result: what the lab (docs/lab.md) recorded. Real services, clients and tools in network
namespaces, labelled by attacker, victim, time and tool. Written by `python -m training.lab.card {folders}`.

![Packets and flows by class, MTUs, TTLs, links and address plans](img/data.png)

{sections}"""
    (args.out / "data.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
