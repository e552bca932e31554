"""Every command of ours that the installation and upgrading pages name exists, with the options that they give it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from packetclip_sensor.cli import app

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("install.md", "upgrading.md", "queries.md")


def commands(text: str) -> list[list[str]]:
    """The words behind `packetclip` of every command line, indented or in backticks."""
    found = re.findall(r"(?:^ {4}|^ {4}runuser .*? -- |`)packetclip ([a-z][^`\n|>#;]*)", text, flags=re.MULTILINE)
    return [shlex.split(line) for line in found]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_the_page_exists_with_its_options(page: str) -> None:
    lines = commands((DOCS / page).read_text(encoding="utf-8"))
    for words in lines:
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while hasattr(command, "commands"):
            assert rest, words
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in rest if word.startswith("-")} <= known, words
    assert lines


def test_a_command_that_is_none_would_be_seen() -> None:
    assert commands("    packetclip setup nothing --x\nand `packetclip check -c FILE`") == [
        ["setup", "nothing", "--x"],
        ["check", "-c", "FILE"],
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_on_the_page_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([\w./]+\.md)", (DOCS / page).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (DOCS / link).is_file()] == []
