"""The plain text of a log file, whether it is compressed or not: read, go to an offset, look at the first bytes."""

from __future__ import annotations

import errno
import os
import struct
import zlib

HEAD_BYTES = 1024
"""Plain bytes that identify a file. A shorter file is known by what it has, and is never waited for."""
LARGE_BYTES = 1 << 20
"""From this size on a .gz whose last member is as long as what was read counts as read; below, equal members are likely."""
PADDING_BYTES = 16 << 20
"""Zeros behind a member that are passed over to find another one."""
GZIP_MAGIC = b"\x1f\x8b"


def data_from(fd: int, at: int) -> int:
    """Where a file has data from the offset `at` on: behind a hole, if one is there. A sparse file's holes read as zeros, and a
    terabyte of them takes no room."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as err:  # ENXIO: nothing but a hole to the end; others: the file system does not tell
        return max(at, os.fstat(fd).st_size) if err.errno == errno.ENXIO else at


class Plain:
    """A plain file. `read_bytes` is where the next read begins."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.read_bytes = 0

    def head(self) -> bytes:
        """The first HEAD_BYTES of the text, fewer where there are no more yet."""
        return os.pread(self.fd, HEAD_BYTES, 0)

    def read(self, n: int) -> bytes:
        """At most n bytes more; none where there are none now."""
        data = os.pread(self.fd, n, self.read_bytes)
        self.read_bytes += len(data)
        return data

    def pass_hole(self) -> int:
        """Go to where the file has data again, if there is a hole here; returns its bytes."""
        before, self.read_bytes = self.read_bytes, data_from(self.fd, self.read_bytes)
        return self.read_bytes - before

    def seek(self, offset: int) -> bool:
        """Go to `offset` if the text reaches it and a line ends there."""
        size = os.fstat(self.fd).st_size
        self.read_bytes = offset
        return offset <= size and (offset in (0, size) or os.pread(self.fd, 1, offset - 1) == b"\n")

    def damage(self) -> str | None:
        """What is wrong with the file, once nothing more will be written to it."""
        return None


class Gzip:
    """Plain text of a .gz, which may still be growing; several members in a row count as one text."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.read_bytes = 0
        self._head = b""
        self._start()

    def _start(self) -> None:
        self.read_bytes = 0
        self._raw_at = 0
        self._raw = b""
        self._inflate = zlib.decompressobj(31)
        self._jumped = False
        self._error: str | None = None

    def head(self) -> bytes:
        if len(self._head) < HEAD_BYTES:
            at, self._head = self.read_bytes, b""
            self._start()
            while len(self._head) < HEAD_BYTES and (data := self.read(HEAD_BYTES - len(self._head))):
                self._head += data
            self._start()
            self.seek(at)
        return self._head

    def read(self, n: int) -> bytes:
        padding = 0
        while self._error is None and padding < PADDING_BYTES:
            if not self._raw:
                self._raw = os.pread(self.fd, 1 << 16, self._raw_at)
                self._raw_at += len(self._raw)
                if not self._raw:
                    return b""
            if self._inflate.eof:
                read, self._raw = len(self._raw), self._raw.lstrip(b"\0")  # padding, as tapes and some archivers leave it
                if not self._raw:
                    padding, self._raw_at = padding + read, data_from(self.fd, self._raw_at)
                    continue
                self._inflate = zlib.decompressobj(31)
            try:
                data = self._inflate.decompress(self._raw, n)
            except zlib.error as err:
                self._error = f"gzip is damaged ({err})"
                return b""
            self._raw = self._inflate.unused_data or self._inflate.unconsumed_tail
            if data:
                self.read_bytes += len(data)
                return data
        return b""

    def seek(self, offset: int) -> bool:
        if offset < self.read_bytes:
            self._start()
        if offset >= LARGE_BYTES and self._plain_size() == offset:
            self._raw_at, self.read_bytes = os.fstat(self.fd).st_size, offset
            self._jumped = True
            return True
        last = b"\n"
        while self.read_bytes < offset:
            data = self.read(min(1 << 20, offset - self.read_bytes))
            if not data:
                return False
            last = data[-1:]
        return last == b"\n"

    def _plain_size(self) -> int | None:
        """Size of the text from the trailer (RFC 1952 2.3.1): saves unpacking a file of which everything has been read."""
        size = os.fstat(self.fd).st_size
        return int(struct.unpack("<I", os.pread(self.fd, 4, size - 4))[0]) if size >= 18 else None

    def damage(self) -> str | None:
        if self._error is None and not self._inflate.eof and self.read_bytes and not self._jumped:
            return "gzip ends before its end mark"
        return self._error
