"""Every command of ours that the README and the pages name exists, with the options that they give it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from packetclip_sensor.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [path for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) if path.name != "decisions.md"]
"""All but the record of decisions, which may name what is gone."""
TRAINING = sorted((ROOT / "training").glob("*.md"))
COMMAND: Any = typer.main.get_command(app)
LINK = re.compile(r"\]\(([\w./-]+?\.(?:md|yaml|csv|png|zeek))(?:#[\w-]+)?[)\s]")


def commands(text: str) -> list[list[str]]:
    """The words behind `packetclip` of every command line: indented, behind a prompt, in a block of its own or in backticks."""
    found = re.findall(
        r"(?:^ *(?:\$ )?(?:runuser .*? -- |/[\w/]+/)?|`)packetclip ([a-z](?:\"[^\"\n]*\"|'[^'\n]*'|[^`\n|>#;\"'])*)",
        text,
        flags=re.MULTILINE,
    )
    return [shlex.split(re.sub(r" {3,}.*", "", line)) for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_the_page_exists_with_its_options(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        command = COMMAND
        rest = list(words)
        while hasattr(command, "commands") and rest:
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.split("=")[0] for word in rest if word.startswith("-")} <= known, words


def test_commands_are_found_on_the_pages() -> None:
    found = [words for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]
    assert {"run", "replay", "check", "init", "hunt", "similar", "setup", "calibrate", "report", "explain"} <= {
        w[0] for w in found
    }
    assert len(found) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_on_the_page_leads_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).is_file()] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_page_says_first_whom_it_is_for_and_is_in_the_index(page: Path) -> None:
    _, *lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line and not line.startswith("<!--")]
    assert lines[0].startswith("For ")
    assert page.name == "README.md" or f"]({page.name})" in (DOCS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, DOCS / "decisions.md", *TRAINING], ids=lambda page: page.name)
def test_no_page_names_a_place_of_the_machine_it_was_written_on(page: Path) -> None:
    assert re.findall(r"(?:/tmp/|/home/|/root/|/work/)\w+/\S+", page.read_text(encoding="utf-8")) == []
