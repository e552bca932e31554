"""Captures to logs: runs Zeek with our scripts over a pcap, so that a capture takes the same way as live traffic.

Zeek is not needed by the sensor; where it is not installed Suricata reads the capture, and without either logs recorded
elsewhere are replayed instead.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.sources.discovery import readable
from packetclip_sensor.sources.plaintext import GZIP_MAGIC
from packetclip_sensor.sources.suricata.capture import find_suricata, run

USUAL_ZEEK = Path("/opt/zeek/bin/zeek")
"""Where Zeek's own packages install it, often outside PATH."""


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


def logs_of(pcap: Path, workdir: Path, zeek: Path | None = None) -> Path:
    """Run Zeek over a capture, or Suricata where there is no Zeek, and return the folder with its logs.

    Zeek starts with fixed seeds, so that uids are the same on every replay.

    Args:
        pcap: pcap or pcapng, plain or .gz.
        workdir: folder for the logs, made when needed; logs of ours that are in it are replaced.
        zeek: the program, where it is not to be looked for.
    Raises:
        ConfigError: there is neither.
        LogFormatError: the capture cannot be read, or the program fails on it.
    """
    program = zeek or find_zeek()
    suricata = find_suricata() if program is None else None
    if program is None and suricata is None:
        raise ConfigError(
            f"{pcap} is a capture, and there is neither Zeek (on PATH or in {USUAL_ZEEK.parent}) nor Suricata 7 or later; "
            "install one of them, or give the folder of logs that Zeek wrote with the PacketCLIP package"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("packetclip_packet.log", "packetclip_flow.log", "eve.json"):
        (workdir / name).unlink(missing_ok=True)
    plain = _unpacked(pcap, workdir)
    try:
        if suricata is not None:
            run(suricata, plain.resolve(), workdir, given=pcap)
        elif program is not None:
            _run_zeek(program, plain.resolve(), workdir, pcap)
    finally:
        if plain != pcap:
            plain.unlink()
    return workdir


def _run_zeek(zeek: Path, plain: Path, workdir: Path, pcap: Path) -> None:
    # -C: captures made on the sending host have checksums that its network card fills in later. -D: fixed seeds.
    command = [str(zeek), "-C", "-D", "-r", str(plain), str(resource("zeek_scripts"))]
    try:
        done = subprocess.run(command, cwd=workdir, capture_output=True, check=False)
    except OSError as err:
        raise ConfigError(f"{zeek} cannot be started ({err.strerror}); give the path of a working zeek") from err
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise LogFormatError(f"zeek could not read {pcap}: {lines[-1]}; is it a whole pcap or pcapng, and Zeek 7 or later?")
    if not (workdir / "packetclip_packet.log").exists():
        raise LogFormatError(f"{pcap} gave no packetclip_packet.log: Zeek saw no IP packet in it; give another capture")


def _unpacked(pcap: Path, workdir: Path) -> Path:
    """The capture itself, or its unpacked copy in `workdir` where it is a .gz."""
    with readable(pcap):
        with pcap.open("rb") as file:
            if file.read(2) != GZIP_MAGIC:
                return pcap
        plain = workdir / "capture.pcap"
        with gzip.open(pcap) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        return plain
