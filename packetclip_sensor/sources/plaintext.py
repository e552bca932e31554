"""The plain text of a file, whether it is packed or not: read, go to an offset, look at the first bytes."""

from __future__ import annotations

import bz2
import errno
import lzma
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from packetclip_sensor.errors import LogFormatError

try:
    from compression import zstd  # Python 3.14
except ImportError:
    try:
        from backports import zstd
    except ImportError:  # a platform without it reads all else
        zstd = None

HEAD_BYTES = 1024
"""Plain bytes that identify a file. A shorter file is known by what it has, and is never waited for."""
LARGE_BYTES = 1 << 20
"""From this size on a .gz whose last member is as long as what was read counts as read; below, equal members are likely."""
LZMA_BYTES = 256 << 20
"""Most memory for unpacking xz, four times what `xz -9` needs; zstd has a bound of its own, 128 MiB of window."""
PADDING_BYTES = 16 << 20
"""Zeros behind a member that are passed over to find another one."""
GZIP_MAGIC = b"\x1f\x8b"


def data_from(fd: int, at: int) -> int:
    """Where a file has data from the offset `at` on: behind a hole, if one is there. A sparse file's holes read as zeros, and a
    terabyte of them takes no room."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as err:  # ENXIO: nothing but a hole to the end; others: the file system does not know
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


class Packed:
    """Plain text of a packed file, which may still be growing; several members in a row count as one text."""

    def __init__(self, fd: int, packing: Packing) -> None:
        self.fd = fd
        self.read_bytes = 0
        self._packing = packing
        self._head = b""
        self._start()

    def _start(self) -> None:
        self.read_bytes = 0
        self._raw_at = 0
        self._raw = b""
        self._unpack = self._packing.unpacker()
        self._jumped = False
        self._error: str | None = None

    def head(self) -> bytes:
        """As `Plain.head`."""
        if len(self._head) < HEAD_BYTES:
            at, self._head = self.read_bytes, b""
            self._start()
            while len(self._head) < HEAD_BYTES and (data := self.read(HEAD_BYTES - len(self._head))):
                self._head += data
            self._start()
            self.seek(at)
        return self._head

    def read(self, n: int) -> bytes:
        """As `Plain.read`."""
        padding = 0
        while self._error is None and padding < PADDING_BYTES:
            if self._unpack.eof and self._raw:
                zeros, self._raw = len(self._raw), self._raw.lstrip(b"\0")  # padding, as tapes and some archivers leave it
                if not self._raw:
                    padding, self._raw_at = padding + zeros, data_from(self.fd, self._raw_at)
            if not self._raw and (self._unpack.eof or self._unpack.needs_input):
                self._raw = os.pread(self.fd, 1 << 16, self._raw_at)
                self._raw_at += len(self._raw)
                if not self._raw:
                    return b""
                continue
            if self._unpack.eof:
                self._unpack = self._packing.unpacker()
            try:
                data = self._unpack.decompress(self._raw, n)
            except _DAMAGES as err:
                self._error = f"{self._packing.name} is damaged ({err})"
                return b""
            self._raw = self._unpack.unused_data if self._unpack.eof else b""
            if data:
                self.read_bytes += len(data)
                return data
        return b""

    def seek(self, offset: int) -> bool:
        """As `Plain.seek`."""
        if offset < self.read_bytes:
            self._start()
        if offset >= LARGE_BYTES and plain_bytes(self.fd) == offset:
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

    def grown(self) -> bool:
        """Whether there is more of the file than was unpacked."""
        return self._error is None and os.fstat(self.fd).st_size > self._raw_at

    def damage(self) -> str | None:
        """As `Plain.damage`."""
        if self._error is None and not self._unpack.eof and self._raw_at and not self._jumped:
            return f"{self._packing.name} ends before its end mark"
        return self._error


def plain_bytes(fd: int) -> int | None:
    """Size of a .gz's text, from its trailer (RFC 1952 2.3.1): saves unpacking what has been read. None for other packed files,
    which do not tell it, or not in one place."""
    size = os.fstat(fd).st_size
    if size < 18 or os.pread(fd, 2, 0) != GZIP_MAGIC:
        return None
    return int(struct.unpack("<I", os.pread(fd, 4, size - 4))[0])


class Unpacker(Protocol):
    """What bz2, lzma and zstd have in common: see `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """zlib in the form of the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        plain = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = len(plain) < max_length and not self._inflate.unconsumed_tail
        return plain


class Packing(NamedTuple):
    """A way to pack files, and how its files begin."""

    name: str
    magic: bytes
    unpacker: Callable[[], Unpacker]


def _unxz() -> Unpacker:
    return lzma.LZMADecompressor(memlimit=LZMA_BYTES)


_PACKINGS = [
    Packing("gzip", GZIP_MAGIC, _Gunzip),
    Packing("bzip2", b"BZh", bz2.BZ2Decompressor),
    Packing("xz", b"\xfd7zXZ\0", _unxz),
]
_DAMAGES: tuple[type[Exception], ...] = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)
_TOOLS = {
    b"\x04\x22\x4d\x18": ("lz4", "unpack it: lz4 -d"),
    b"\x28\xb5\x2f\xfd": ("zstd", "install the Python package backports.zstd, or unpack it: zstd -d"),
    b"\x1f\x9d": ("compress", "unpack it: gzip -d"),
    b"LZIP": ("lzip", "unpack it: lzip -d"),
    b"\x89LZO": ("lzop", "unpack it: lzop -d"),
    b"PK\x03\x04": ("zip", "unpack it: unzip"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "unpack it: 7z x"),
    b"Rar!": ("RAR", "unpack it: unrar x"),
}
"""What cannot be read by how it begins: its name, and what to do."""
if zstd is not None:
    _PACKINGS.append(Packing("zstd", b"\x28\xb5\x2f\xfd", zstd.ZstdDecompressor))
    _DAMAGES += (zstd.ZstdError,)


def stream(fd: int) -> Plain | Packed:
    """The plain text of an open file, from its start.

    Raises:
        OSError: it cannot be read, or (ENOTSUP) is packed in a way that nothing here unpacks; then its text says what to do.
    """
    magic = os.pread(fd, 6, 0)
    for packing in _PACKINGS:
        if magic.startswith(packing.magic):
            return Packed(fd, packing)
    for begin, (name, remedy) in _TOOLS.items():
        if magic.startswith(begin):
            raise OSError(errno.ENOTSUP, f"packed by {name}; {remedy}")
    return Plain(fd)


@contextmanager
def reading(path: Path) -> Iterator[Plain | Packed]:
    """The plain text of a file, which is closed at the end. Raises as `stream`, or what is wrong with the path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield stream(fd)
    finally:
        os.close(fd)


def unreadable(path: Path, err: OSError) -> LogFormatError:
    """The error for a file or folder that the operating system does not give out."""
    if isinstance(err, FileNotFoundError):
        return LogFormatError(f"{path} does not exist; give a Zeek log folder, a log file or a pcap")
    if err.errno == errno.ENOTSUP:
        return LogFormatError(f"{path} is {err.strerror}")
    remedy = "let the sensor's user read it, by a group of Zeek's (not group root) or by setfacl"
    return LogFormatError(f"{path} cannot be read ({err.strerror}); {remedy}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises LogFormatError, with the remedy, where a file or folder cannot be read."""
    try:
        yield
    except OSError as err:
        raise unreadable(path, err) from err
