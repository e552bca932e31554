"""Text that came from a network or a file, made fit to show, store and count: the one place that keeps escape sequences from
terminals, and secrets from logs, messages and documents."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from typing import Any, TextIO

MAX_TEXT_CHARS, MAX_LINE_CHARS = 4000, 100_000
SHORTEST_SECRET_CHARS = 6
"""A shorter one is not masked: it would hide ordinary words."""
LEAST_COLUMNS = 20
HIDDEN = "***"
_LOGIN_IN_URL = re.compile(r"""(?<=://)([^\s"'<>/]+|[^\s"'<>/]+:[^\s"'<>]+)@""")
"""User and password, also such that hold a slash."""

_secrets: set[str] = set()


def keep_secret(*secrets: str) -> None:
    """From now on these stand masked in everything that `masked` and `printable` give."""
    _secrets.update(secret for secret in secrets if len(secret) >= SHORTEST_SECRET_CHARS)


def masked(text: str) -> str:
    """`text` without the secrets that were named, and without user and password in URLs."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return _LOGIN_IN_URL.sub(f"{HIDDEN}@", text) if "@" in text else text


def printable(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """`text` masked, with each character that does not print (control, format, line end) escaped, cut to `max_chars` with an
    ellipsis."""
    text = masked(text)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[: max_chars + 1])
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def printable_lines(text: str) -> str:
    """`printable` of each line, for a text of ours that has several; tabs go."""
    return "\n".join(printable(line.replace("\t", "    "), MAX_LINE_CHARS) for line in text.split("\n"))


def say(text: str = "", *, hang: int | None = None, file: TextIO | None = None, flush: bool = False) -> None:
    """Print a text of ours with names of others in it: `printable_lines`.

    Args:
        hang: where a terminal is narrower than a line, break it between words, its further lines so far in. None leaves it whole:
            what is pasted somewhere must not be broken.
    """
    shown, width = printable_lines(text), columns(file or sys.stdout)
    if hang is not None and width:
        shown = "\n".join(filled(line, width, hang) for line in shown.split("\n"))
    print(shown, file=file, flush=flush)


def columns(file: TextIO) -> int:
    """How wide a terminal is, or as COLUMNS says; 0 for a pipe or a file, whose lines have no end."""
    return shutil.get_terminal_size().columns if "COLUMNS" in os.environ or file.isatty() else 0


def filled(line: str, width: int, hang: int) -> str:
    """A line broken between words; the first one's indentation and blanks stay."""
    wide = max(width, hang + LEAST_COLUMNS)
    if len(line) <= wide:
        return line
    return textwrap.fill(line, wide, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)


def clean(value: Any) -> Any:
    """A value of a log line: `printable` of every text in it, also of keys and in lists; other things as they are."""
    match value:
        case str():
            return printable(value)
        case dict():
            return {clean(name): clean(one) for name, one in value.items()}
        case list() | tuple() | set():
            return [clean(one) for one in value]
    return value if isinstance(value, int | float | None) else printable(str(value))


def counted(count: int, noun: str) -> str:
    """A number of things in words: "1 file", "12,000 files"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
