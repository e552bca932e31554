"""Captures of public repositories, out of git mirrors that a user has fetched, into a folder for `training.data.prepare`.

    git clone --bare URL/cisagov/icsnpp-bacnet mirrors/cisagov+icsnpp-bacnet
    python -m training.data.public_captures --mirrors mirrors --out CAPTURES --besides OTHER-CAPTURES
    python -m training.data.prepare --lab lab/logs --captures CAPTURES --out runs/pairs

public_captures.yaml names repositories, commits and paths, with each label, its ground, and the licence; the captures are never
part of the project. Each becomes CAPTURES/LABEL/SOURCE__NAME.pcap, and CAPTURES/MANIFEST.csv says what it is. Captures of few
packets are left out, and ones whose packets are in another one already, of the table or of a folder given by --besides.

A mirror is looked for in MIRRORS as OWNER/NAME, OWNER+NAME and OWNER+NAME/repo. What is missing is named, the others are taken.
"""

import argparse
import csv
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import yaml

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.sources.pcap import PCAP_ORDERS, CaptureFile
from training.common import DataError, argument, command, write_whole
from training.missions import CLASS_MISSION

TABLE = Path(__file__).with_suffix(".yaml")
COLUMNS = ("file", "label", "use", "source", "path_in_source", "licence", "packets", "bytes", "duration_s", "ground_for_label")
SUFFIXES = r"(\.(pcap|pcapng|cap|trace|dmp|gz|xz))+$"
COMPARED = 1000
"""Packets by which captures are compared, so that one that was cut is known again."""


class Group(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Captures of one label. In `paths` and `without` a * stands for any text, / too."""

    ground: str
    paths: list[str]
    label: str = "Benign"
    without: list[str] = []


class Source(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A repository, which is wholly of one use."""

    repository: str
    commit: str
    licence: str
    captures: list[Group]
    use: Literal["train or test", "validate"] = "train or test"


class Taken(NamedTuple):
    """A capture as a classic pcap."""

    pcap: bytes
    packets: int
    duration_s: float
    digest: bytes
    """Of the first packets' bytes, without times."""


def read(table: Path) -> list[Source]:
    """The sources of a table. Raises DataError."""
    try:
        sources = msgspec.convert(yaml.safe_load(table.read_text(encoding="utf-8")), list[Source])
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as err:
        raise DataError(f"{table} is no table of captures ({err}); {TABLE.name} shows the form") from err
    for source in sources:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository) or not re.fullmatch(r"[0-9a-f]{40}", source.commit):
            raise DataError(f"{table}: {source.repository} at {source.commit}: write OWNER/NAME and the commit's 40 digits")
        for group in source.captures:
            if group.label not in CLASS_MISSION:
                raise DataError(f"{table}: {source.repository}: label {group.label!r} is none of {', '.join(CLASS_MISSION)}")
    return sources


def taken(capture: Path, most: int) -> Taken:
    """The first packets of a capture, at most `most`. Raises LogFormatError where it cannot be read."""
    file, out, digest, times = CaptureFile(capture), io.BytesIO(), hashlib.sha256(), list[float]()
    for block in file.blocks():
        if not times:
            out.write(file.header)
        order, ticks = PCAP_ORDERS[file.header[:4]]
        at = 0
        while at < len(block) and len(times) < most:
            seconds, parts, captured, _ = struct.unpack_from(f"{order}IIII", block, at)
            end = at + 16 + captured
            if len(times) < COMPARED:
                digest.update(block[at + 16 : end])
            times.append(seconds + parts / ticks)
            out.write(block[at:end])
            at = end
        if len(times) >= most:
            break
    return Taken(out.getvalue(), len(times), max(times, default=0.0) - min(times, default=0.0), digest.digest())


class Mirror:
    """A repository on this machine at one commit. Nothing is fetched, not even what a partial clone left out.

    Raises:
        DataError: there is none with this commit.
    """

    def __init__(self, mirrors: Path, source: Source) -> None:
        joined = mirrors / source.repository.replace("/", "+")
        self.commit = source.commit
        for self.folder in (mirrors / source.repository, joined, joined / "repo"):
            if self.folder.is_dir() and self._git("cat-file", "-e", f"{self.commit}^{{commit}}").returncode == 0:
                break
        else:
            raise DataError(f"{source.repository}: no mirror with commit {self.commit} at {joined}; get it by git clone --bare")
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", self.commit).stdout.decode("utf-8", "surrogateescape")
        blobs = [entry.split("\t", 1) for entry in listed.split("\0") if entry.startswith("100")]
        self.files = {path: about.split()[2] for about, path in blobs}
        """Object of each path that is a file."""

    def data(self, path: str) -> bytes:
        """Raises DataError: the mirror lacks the file's content."""
        found = self._git("cat-file", "blob", self.files[path])
        if found.returncode:
            raise DataError(f"{path}: its content is not in the mirror")
        return found.stdout

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "GIT_ALLOW_PROTOCOL": "none"}
        return subprocess.run(["git", "-C", self.folder, *arguments], capture_output=True, check=False, env=environment)


class Taking:
    """Takes captures, source by source."""

    def __init__(self, out: Path, least: int, most: int) -> None:
        self.out, self.least, self.most = out, least, most
        self.known: set[bytes] = set()
        self.rows: list[dict[str, object]] = []
        self.problems: list[str] = []

    def source(self, source: Source, mirrors: Path) -> None:
        """Take the captures of a source; what is missing becomes a problem."""
        try:
            mirror = Mirror(mirrors, source)
        except DataError as err:
            self.problems.append(str(err))
            return
        before, left_out = len(self.rows), 0
        for group in source.captures:
            found = {pattern: [p for p in mirror.files if fnmatchcase(p, pattern)] for pattern in group.paths}
            self.problems += [f"{source.repository}: nothing at {pattern}" for pattern, paths in found.items() if not paths]
            for path in sorted({path for paths in found.values() for path in paths}):
                if not any(fnmatchcase(path, pattern) for pattern in group.without):
                    try:
                        left_out += not self._capture(source, group, path, mirror.data(path))
                    except (DataError, LogFormatError) as err:
                        self.problems.append(f"{source.repository}: {err}")
        packets = sum(int(str(row["packets"])) for row in self.rows[before:])
        print(f"{source.repository}: {len(self.rows) - before} captures, {packets:,} packets; {left_out} short or known")

    def _capture(self, source: Source, group: Group, path: str, data: bytes) -> bool:
        with tempfile.TemporaryDirectory() as work:
            # The name stands in messages about the capture.
            name = re.sub(r"[^\w.+-]+", "-", re.sub(SUFFIXES, "", path.replace("/", "-")))
            file = Path(work, name)
            file.write_bytes(data)
            try:
                found = taken(file, self.most)
            except LogFormatError as err:
                raise DataError(f"{path}: {str(err).replace(str(file), 'it')}") from err
        if found.packets < self.least or found.digest in self.known:
            return False
        self.known.add(found.digest)
        label = group.label.replace(" ", "_")
        target = f"{label}/{source.repository.replace('/', '+')}__{name}.pcap"
        write_whole(self.out / target, found.pcap)
        values = (target, label, source.use, source.repository, path, source.licence, found.packets, len(found.pcap))
        self.rows.append(dict(zip(COLUMNS, (*values, round(found.duration_s, 6), group.ground), strict=True)))
        return True


@command(
    argument("--mirrors", type=Path, required=True, help="folder of git mirrors"),
    argument("--out", type=Path, required=True, help="folder of the captures and their MANIFEST.csv"),
    argument("--table", type=Path, default=TABLE, help="another table than the project's"),
    argument("--besides", type=Path, nargs="*", default=[], help="folders of captures at hand, which are not taken again"),
    argument("--least", type=int, default=30, help="packets that a capture has at least"),
    argument("--most", type=int, default=50_000, help="packets of a capture; longer ones are cut"),
)
def main(args: argparse.Namespace) -> int:
    """Exit codes: 0 all are there, 1 some are missing, 2 the table is unfit."""
    sources = read(args.table)
    taking = Taking(args.out, args.least, args.most)
    for path in sorted(p for folder in args.besides for p in folder.rglob("*") if p.is_file()):
        try:
            taking.known.add(taken(path, min(COMPARED, args.most)).digest)
        except LogFormatError:  # a manifest, a text
            continue
    for source in sources:
        taking.source(source, args.mirrors)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(taking.rows)
    write_whole(args.out / "MANIFEST.csv", text.getvalue())
    print(f"{len(taking.rows)} captures of {len({row['source'] for row in taking.rows})} sources in {args.out}")
    for problem in taking.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if taking.problems else 0


if __name__ == "__main__":
    sys.exit(main())
