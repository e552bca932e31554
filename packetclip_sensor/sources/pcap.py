"""Captures to logs: runs Zeek with our scripts over captures, so that these take the same way as live traffic.

Zeek is not needed by the sensor; where it is not installed Suricata reads captures, and without either logs recorded elsewhere
are replayed. Both get whole packets of a classic pcap: at one that is cut Zeek would stop and lose what it had not written yet;
it unpacks nothing, reads one file, and of a pcapng whose interfaces differ nothing at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from packetclip_sensor.common.resources import resource
from packetclip_sensor.common.text import printable
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.sources.plaintext import Packed, Plain, readable, reading
from packetclip_sensor.sources.suricata.capture import find_suricata, run

USUAL_ZEEK = Path("/opt/zeek/bin/zeek")
"""Where Zeek's own packages install it, often outside PATH."""
LOGS = ("eve.json", "packetclip_flow.log", "packetclip_packet.log")
"""What is kept of a run; the packet log last, so that it says that all is there."""
PCAP_ORDERS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e9),
    b"\xa1\xb2\xc3\xd4": (">", 1e6),
    b"\xa1\xb2\x3c\x4d": (">", 1e9),
}
"""Byte order of a classic pcap, and how many parts its seconds have, by how it begins."""
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_LEAST = {_SECTION: 28, _INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE_PACKET: 16, _PACKET: 32}
"""Bytes that a block of a pcapng has at least."""
LINK_TYPES = frozenset((0, 1, 9, 10, 12, 14, 50, 101, 105, 113, 127, 228, 229, 239, 276))
"""Link types from which Zeek 8.0 reads IP (its base/packet-protocols; raw IP is what it takes all others for)."""
MAX_PACKET = 262144
"""Most captured bytes of a packet, as in libpcap; more is damage."""
CHUNK = 1 << 20


def find_zeek() -> Path | None:
    """Zeek's program, from PATH or its usual place; None where there is none."""
    if found := shutil.which("zeek"):
        return Path(found)
    return USUAL_ZEEK if os.access(USUAL_ZEEK, os.X_OK) else None


def reader() -> str | None:
    """What reads captures here, in words; None where there is neither Zeek nor Suricata."""
    if zeek := find_zeek():
        return f"Zeek ({zeek})"
    suricata = find_suricata()
    return f"Suricata {suricata.version} ({suricata.program}), for there is no Zeek" if suricata else None


class CaptureFile:
    """The whole packets of a pcap or pcapng, packed or not, read forward once. What is known of them grows as they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = b""
        """Header of the classic pcap whose records `blocks` gives; known with the first of them."""
        self.link_type = -1
        self.packets = 0
        self.first = self.last = 0.0
        """Time of the first and of the last packet, epoch seconds."""
        self.problem = ""
        """What of it was not read, once all is."""

    def blocks(self) -> Iterator[bytes]:
        """Records of whole packets, many at once.

        Raises:
            LogFormatError: the file cannot be read, is no capture, or Zeek does not know its link type.
        """
        with readable(self.path), reading(self.path) as text:
            begin = _read(text, 24)
            if begin.startswith(PCAPNG_MAGIC):
                yield from self._next_generation(text, begin)
            elif begin[:4] in PCAP_ORDERS and len(begin) == 24:
                yield from self._classic(text, begin)
            else:
                raise LogFormatError(f"{self.path} is no whole pcap or pcapng; copy it again")
            if damage := text.damage():
                self.problem = f"{damage} after packet {self.packets:,}"

    def extent(self) -> CaptureFile:
        """The same, read to its end."""
        for _ in self.blocks():
            pass
        return self

    def joins(self, other: CaptureFile) -> bool:
        """Whether the records of both can stand in one pcap; both were read."""
        return self.packets > 0 and self.header == other.header

    def _classic(self, text: Plain | Packed, begin: bytes) -> Iterator[bytes]:
        """Source: pcap-savefile(5)."""
        order, ticks = PCAP_ORDERS[begin[:4]]
        self.link_type = struct.unpack(f"{order}I", begin[20:24])[0] & 0xFFFF
        self._check_link_type()
        self.header = begin[:16] + struct.pack(f"{order}I", MAX_PACKET) + begin[20:24]
        record = struct.Struct(f"{order}IIII")
        rest, packets = b"", 0
        while chunk := text.read(CHUNK):
            data, at, before = rest + chunk, 0, packets
            size, last = len(data), -1
            while at + 16 <= size:
                captured = record.unpack_from(data, at)[2]
                if captured > MAX_PACKET or at + 16 + captured > size:
                    break
                last, at, packets = at, at + 16 + captured, packets + 1
            if packets > before:
                self._count(packets - before, *(_time(record, data, place, ticks) for place in (0, last)))
                yield data[:at]
            rest = data[at:]
            if len(rest) > 16 + MAX_PACKET:
                self.problem = f"damaged after packet {packets:,}"
                return
        if rest:
            self.problem = f"cut in the middle of packet {packets + 1:,}"

    def _next_generation(self, text: Plain | Packed, begin: bytes) -> Iterator[bytes]:
        """As a classic pcap in microseconds, as which libpcap gives it to Zeek too. Packets of a second link type are left out.

        Source: draft-ietf-opsawg-pcapng, section 4.
        """
        interfaces = list[_Interface]()
        out, others, untimed = bytearray(), 0, 0
        for kind, order, block in self._framed(text, begin):
            if kind == _SECTION:
                interfaces = []
            elif kind == _INTERFACE:
                interfaces.append(_Interface.of(block, order))
            untimed += kind == _SIMPLE_PACKET
            if kind not in (_OLD_PACKET, _PACKET):
                continue
            number, high, low, captured, wire = struct.unpack_from(f"{order}{'I' if kind == _PACKET else 'Hxx'}IIII", block, 8)
            if number >= len(interfaces) or captured > len(block) - 32:
                self.problem = f"damaged after packet {self.packets:,}"
                break
            interface = interfaces[number]
            if self.link_type < 0 and interface.link_type in LINK_TYPES:
                self.link_type = interface.link_type
                self.header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_PACKET, self.link_type)
            if interface.link_type != self.link_type:
                others += 1
                continue
            seconds, micros = divmod(
                (high << 32 | low) * 1_000_000 // interface.ticks + interface.offset_s * 1_000_000, 1_000_000
            )
            self._count(1, seconds + micros / 1e6, seconds + micros / 1e6)
            out += struct.pack("<IIII", seconds & 0xFFFFFFFF, micros, captured, wire) + block[28 : 28 + captured]
            if len(out) >= CHUNK:
                yield bytes(out)
                out.clear()
        if out:
            yield bytes(out)
        if others and self.link_type < 0:
            self.link_type = interfaces[0].link_type
            self._check_link_type()
        if others and not self.problem:
            self.problem = (
                f"{others:,} packets of another link type than {self.link_type} were left out; take each interface's into a "
                "capture of its own: tshark -r FILE -Y 'frame.interface_id == 1' -w OTHER.pcap"
            )
        elif untimed and not self.problem:
            self.problem = f"{untimed:,} packets without a time (simple packet blocks) were left out; capture them by dumpcap"

    def _framed(self, text: Plain | Packed, data: bytes) -> Iterator[tuple[int, str, bytes]]:
        """Type, byte order and bytes of each whole block of a pcapng."""
        order, more = "<", data
        while more:
            at = 0
            while at + 12 <= len(data):
                if data.startswith(PCAPNG_MAGIC, at):
                    order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
                kind, length = struct.unpack_from(f"{order}II", data, at)
                if length % 4 or not _LEAST.get(kind, 12) <= length <= MAX_PACKET + CHUNK:
                    self.problem = f"damaged after packet {self.packets:,}"
                    return
                if at + length > len(data):
                    break
                yield kind, order, data[at : at + length]
                at += length
            more = text.read(CHUNK)
            data = data[at:] + more
        if data:
            self.problem = f"cut in the middle of packet {self.packets + 1:,}"

    def _count(self, packets: int, first: float, last: float) -> None:
        self.first = self.first if self.packets else first
        self.packets, self.last = self.packets + packets, last

    def _check_link_type(self) -> None:
        if self.link_type not in LINK_TYPES:
            raise LogFormatError(
                f"{self.path} has link type {self.link_type}, from which Zeek reads no IP; capture on an Ethernet, raw IP or "
                "`any` interface, or convert it"
            )


def _read(text: Plain | Packed, n: int) -> bytes:
    data = b""
    while len(data) < n and (more := text.read(n - len(data))):
        data += more
    return data


def _time(record: struct.Struct, data: bytes, at: int, ticks: float) -> float:
    seconds, part = record.unpack_from(data, at)[:2]
    return float(seconds + part / ticks)


class _Interface(NamedTuple):
    """An interface description block: link type, units of time in a second, and seconds to add."""

    link_type: int
    ticks: int
    offset_s: int

    @classmethod
    def of(cls, block: bytes, order: str) -> _Interface:
        at, ticks, offset_s = 16, 1_000_000, 0
        while at + 8 <= len(block):
            code, length = struct.unpack_from(f"{order}HH", block, at)
            value = block[at + 4 : at + 4 + length]
            if code == 9 and value:
                ticks = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == 14 and len(value) == 8:
                offset_s = struct.unpack(f"{order}q", value)[0]
            elif code == 0:
                break
            at += 4 + (length + 3) // 4 * 4
        return cls(struct.unpack_from(f"{order}H", block, 8)[0], ticks, offset_s)


def times(capture: CaptureFile, block: bytes) -> Iterator[float]:
    """The time of each packet of a block, epoch seconds."""
    order, ticks = PCAP_ORDERS[capture.header[:4]]
    record, at = struct.Struct(f"{order}IIII"), 0
    while at < len(block):
        yield _time(record, block, at, ticks)
        at += 16 + record.unpack_from(block, at)[2]


class Replayed(NamedTuple):
    """The folder with a capture's logs, and what of the capture is not in them ("" where all is)."""

    folder: Path
    problem: str


def logs_of(
    captures: Path | Sequence[Path],
    workdir: Path,
    zeek: Path | None = None,
    *,
    scripts: Path | None = None,
    options: Sequence[str] = (),
) -> Replayed:
    """Run Zeek, or Suricata where there is no Zeek, over a capture, or over several of one link type as if they were one.

    Zeek starts with fixed seeds, so that uids, and with them document ids, are the same on every replay. The logs come into
    `workdir` when the program has ended well, the packet log last: a run that was killed leaves none.

    Args:
        captures: pcap or pcapng, plain or packed, in the order of their packets.
        workdir: folder for the logs, made when needed; logs of ours that are in it are replaced.
        zeek: the program, where it is not to be looked for.
        scripts: the Zeek package, in place of the sensor's own. options: of Zeek, behind the scripts.
    Raises:
        ConfigError: there is neither.
        LogFormatError: nothing in the captures can be read, or Zeek fails on it.
    """
    files = [CaptureFile(path) for path in ([captures] if isinstance(captures, Path) else captures)]
    name = files[0].path
    program = zeek or find_zeek()
    suricata = find_suricata() if program is None else None
    if program is None and suricata is None:
        raise ConfigError(
            f"{name} is a capture, and there is neither Zeek (on PATH or in {USUAL_ZEEK.parent}) nor Suricata 7 or later; "
            "install one of them, or give the folder of logs that Zeek wrote with the PacketCLIP package"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    for log in LOGS:
        (workdir / log).unlink(missing_ok=True)
    # -C: captures made on the sending host have checksums that its network card fills in later. -D: fixed seeds.
    command = [str(program), "-C", "-D", "-r", "-", str((scripts or resource("zeek_scripts")).absolute()), *options]
    with tempfile.TemporaryDirectory(prefix=".run-", dir=workdir) as folder:
        blocks = _joined(files)
        if (first := next(blocks, None)) is None:
            problem = f": {files[0].problem}" if files[0].problem else ""
            raise LogFormatError(f"{name} holds no packet{problem}; give another capture")
        if suricata is not None:
            plain = Path(folder, "capture.pcap")
            with plain.open("wb") as file:
                file.writelines(chain([first], blocks))
            run(suricata, plain, Path(folder), given=name)
        else:
            status, errors = _fed(command, Path(folder), chain([first], blocks))
            if status:
                raise LogFormatError(f"zeek could not read {name}: {_why(status, errors)}; is it Zeek 7 or later?")
        if not Path(folder, LOGS[-1]).exists():
            raise LogFormatError(f"{name} gave no packetclip_packet.log: Zeek saw no IP packet in it; give another capture")
        for log in LOGS:
            if Path(folder, log).exists():
                Path(folder, log).replace(workdir / log)
    return Replayed(workdir, "; ".join(f"{file.path}: {file.problem}" for file in files if file.problem))


def _joined(files: Iterable[CaptureFile]) -> Iterator[bytes]:
    """One pcap of all of them."""
    begun = False
    for file in files:
        for block in file.blocks():
            yield block if begun else file.header + block
            begun = True


def _fed(command: Sequence[str], folder: Path, blocks: Iterable[bytes]) -> tuple[int, bytes]:
    """Exit status and last words of a program that reads these blocks from its standard input."""
    with (folder / "stderr").open("w+b") as errors:
        try:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        except OSError as err:
            raise ConfigError(f"{command[0]} cannot be started ({err.strerror}); give the path of a working zeek") from err
        with process:
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError), process.stdin:  # it has ended: its status says why
                    for block in blocks:
                        process.stdin.write(block)
            except BaseException:
                process.kill()
                raise
            status = process.wait()
        errors.seek(max(0, errors.tell() - 4096))
        return status, errors.read()


def _why(status: int, errors: bytes) -> str:
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}, perhaps for want of memory"
    lines = errors.decode("utf-8", "backslashreplace").strip().splitlines()
    return printable(lines[-1], 500) if lines else f"exit status {status}"
