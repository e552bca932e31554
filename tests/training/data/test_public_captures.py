"""Captures of public repositories: taken out of git mirrors by a table, with a manifest; what is missing is named."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from captures import packets, pcap, pcapng

from training.data import public_captures
from training.data.ground_truth import CHOOSING, TRAINABLE
from training.data.prepare import allowed

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
OURS = pcap(packets(40))
MOVED = pcap(packets(40, start=1.0), order=">")
"""The same packets at another time."""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@invalid")
    return subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, check=True, text=True).stdout.strip()


def mirror(folder: Path, files: dict[str, bytes]) -> str:
    """A bare mirror of a repository with these files. Returns its commit."""
    work = folder.with_suffix(".work")
    git(folder.parent, "init", "-q", str(work))
    for name, data in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(data)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "captures")
    git(folder.parent, "clone", "-q", "--bare", str(work), str(folder))
    return git(work, "rev-parse", "HEAD")


def source(repository: str, commit: str, *groups: Mapping[str, object], **more: str) -> dict[str, object]:
    return {"repository": repository, "commit": commit, "licence": "MIT", "captures": list(groups), **more}


def run(folder: Path, *sources: dict[str, object], options: tuple[str, ...] = ()) -> int:
    table = folder / "table.yaml"
    table.write_text(yaml.safe_dump(list(sources)))
    return public_captures.main(["--mirrors", str(folder), "--out", str(folder / "out"), "--table", str(table), *options])


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "MANIFEST.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_captures_come_as_pcap_with_a_manifest_that_training_reads(tmp_path: Path) -> None:
    frames = packets(50)
    commit = mirror(
        tmp_path / "north+tool",
        {
            "tests/a b.pcap": OURS,
            "tests/deep/next.pcapng.gz": gzip.compress(pcapng([(0, ts, frame) for ts, frame in frames[5:]])),
            "tests/short.pcap": pcap(packets(29)),
            "tests/moved.pcap": MOVED,
            "tests/flood.pcap": pcap(frames[10:]),
            "tests/scan.pcap": pcap(frames[2:45]),
            "notes.txt": b"no capture",
        },
    )
    benign = {"ground": "test traces", "paths": ["tests/*"], "without": ["*scan*", "*/flood.pcap"]}
    attack = {"ground": "by its name", "paths": ["*/scan.pcap"], "label": "Port Scan"}
    other = mirror(tmp_path / "south+x", {"same.pcap": OURS, "own.pcap": pcap(frames[1:])})
    held = source("south/x", other, {"ground": "g", "paths": ["*.pcap"]}, use="validate")
    assert run(tmp_path, source("north/tool", commit, benign, attack), held) == 0
    rows = manifest(tmp_path)
    assert list(rows[0]) == list(public_captures.COLUMNS)
    assert [(r["file"], r["label"], r["use"], r["packets"]) for r in rows] == [
        ("Benign/north+tool__tests-a-b.pcap", "Benign", TRAINABLE, "40"),
        ("Benign/north+tool__tests-deep-next.pcap", "Benign", TRAINABLE, "45"),
        ("Port_Scan/north+tool__tests-scan.pcap", "Port_Scan", TRAINABLE, "43"),
        ("Benign/south+x__own.pcap", "Benign", CHOOSING, "49"),
    ]
    first = rows[0]
    assert (tmp_path / "out" / first["file"]).stat().st_size == int(first["bytes"]) == len(OURS)
    assert (first["path_in_source"], first["licence"], first["duration_s"]) == ("tests/a b.pcap", "MIT", "39.0")
    assert first["ground_for_label"] == "test traces"
    trained = allowed(tmp_path / "out", ())
    assert [(row.label, row.source) for row in trained] == [("Benign", "north/tool")] * 2 + [("Port Scan", "north/tool")]


def test_long_captures_are_cut_and_ones_at_hand_are_not_taken_again(tmp_path: Path) -> None:
    commit = mirror(tmp_path / "a+b", {"one.pcap": pcap(packets(90)), "two.pcap": pcap(packets(90)[3:])})
    hand = tmp_path / "hand" / "Benign"
    hand.mkdir(parents=True)
    (hand / "moved.pcap").write_bytes(pcap(packets(90, start=5.0)))
    (hand / "MANIFEST.csv").write_text("file,label,use\n")
    everything = source("a/b", commit, {"ground": "g", "paths": ["*"]})
    options = ("--least", "2", "--most", "60", "--besides", str(tmp_path / "hand"))
    assert run(tmp_path, everything, options=options) == 0
    assert [(r["path_in_source"], r["packets"], r["duration_s"]) for r in manifest(tmp_path)] == [("two.pcap", "60", "59.0")]


def test_what_is_missing_is_named_and_the_others_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = mirror(tmp_path / "a+b", {"one.pcap": OURS, "text.pcap": b"no capture at all, but a text"})
    group = {"ground": "g", "paths": ["*.pcap", "gone/*"]}
    assert run(tmp_path, source("no/mirror", commit, group), source("a/b", commit, group), source("a/b", "0" * 40, group)) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"error: no/mirror: no mirror with commit {commit} at ")
    assert errors[0].endswith("get it by git clone --bare")
    assert errors[1:3] == [
        "error: a/b: nothing at gone/*",
        "error: a/b: text.pcap: it is no whole pcap or pcapng; copy it again",
    ]
    assert "a/b: no mirror with commit 000" in errors[3]
    assert [r["path_in_source"] for r in manifest(tmp_path)] == ["one.pcap"]


def test_content_that_a_mirror_lacks_is_named_and_never_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = mirror(tmp_path / "a+b", {"one.pcap": OURS, "two.pcap": pcap(packets(50))})
    work = tmp_path / "a+b.work"
    git(work, "config", "uploadpack.allowFilter", "true")
    shutil.rmtree(tmp_path / "a+b")
    git(tmp_path, "clone", "-q", "--bare", "--filter=blob:limit=3k", work.as_uri(), str(tmp_path / "a+b"))
    assert run(tmp_path, source("a/b", commit, {"ground": "g", "paths": ["*.pcap"]})) == 1
    assert capsys.readouterr().err == "error: a/b: two.pcap: its content is not in the mirror\n"
    assert [r["path_in_source"] for r in manifest(tmp_path)] == ["one.pcap"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("- repository: a/b\n", "is no table of captures"),
        ("[", "is no table of captures"),
        ("- {repository: a, commit: '1', licence: MIT, captures: []}", "write OWNER/NAME and the commit's 40 digits"),
        (
            f"- {{repository: a/b, commit: '{'0' * 40}', licence: MIT, captures: [{{ground: g, paths: [x], label: Worm}}]}}",
            "a/b: label 'Worm' is none of",
        ),
    ],
)
def test_an_unfit_table_ends_with_one_line(tmp_path: Path, table: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.yaml").write_text(table)
    given = ["--mirrors", str(tmp_path), "--out", str(tmp_path / "out"), "--table", str(tmp_path / "table.yaml")]
    assert public_captures.main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


def test_the_projects_table_is_whole_and_names_no_host() -> None:
    sources = public_captures.read(public_captures.TABLE)
    names = [s.repository for s in sources]
    assert names == sorted(set(names), key=str.casefold)
    share = sum(s.use == CHOOSING for s in sources) / len(sources)
    assert 0.2 <= share <= 0.3
    assert all(s.licence and g.ground and g.paths for s in sources for g in s.captures)
    assert not re.search(r"https?:|\.com\b|\.org\b|\s/", public_captures.TABLE.read_text(encoding="utf-8"))


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        public_captures.main(["--help"])
    assert "python -m training.data.public_captures --mirrors mirrors --out CAPTURES" in capsys.readouterr().out
