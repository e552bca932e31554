"""Text that came from a network or a file, made fit to show, store and count."""

from __future__ import annotations

MAX_TEXT_CHARS = 4000


def printable(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """`text` with each character that does not print (control, format, line end) escaped, cut to `max_chars` with an ellipsis."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[: max_chars + 1])
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def counted(count: int, noun: str) -> str:
    """A number of things in words: "1 file", "12,000 files"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
