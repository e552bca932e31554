"""Captures to logs: runs Zeek with our scripts over a pcap, so that a capture takes the same way as live traffic.

Zeek is not needed by the sensor; where it is not installed, logs recorded elsewhere are replayed instead.
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

USUAL_ZEEK = Path("/opt/zeek/bin/zeek")
"""Where Zeek's own packages install it, often outside PATH."""


def find_zeek() -> Path | None:
    """Zeek's program, from PATH or its usual place; None where there is none."""
    if found := shutil.which("zeek"):
        return Path(found)
    return USUAL_ZEEK if os.access(USUAL_ZEEK, os.X_OK) else None


def logs_of(pcap: Path, workdir: Path, zeek: Path | None = None) -> Path:
    """Run Zeek over a capture and return the folder with its logs.

    Zeek starts with fixed seeds, so that uids, and with them document ids, are the same on every replay.

    Args:
        pcap: pcap or pcapng, plain or .gz.
        workdir: folder for the logs, made when needed; logs of ours that are in it are replaced.
        zeek: the program, where it is not to be looked for.
    Raises:
        ConfigError: there is no zeek.
        LogFormatError: the capture cannot be read, or Zeek fails on it.
    """
    program = zeek or find_zeek()
    if program is None:
        raise ConfigError(
            f"{pcap} is a capture, and zeek was found neither on PATH nor in {USUAL_ZEEK.parent}; install Zeek 7 or later, "
            "or give the folder of logs that Zeek wrote with the PacketCLIP package"
        )
    scripts = resource("zeek_scripts")
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("packetclip_packet.log", "packetclip_flow.log"):
        (workdir / name).unlink(missing_ok=True)
    plain = _unpacked(pcap, workdir)
    # -C: captures made on the sending host have checksums that its network card fills in later. -D: fixed seeds.
    command = [str(program), "-C", "-D", "-r", str(plain.resolve()), str(scripts)]
    try:
        done = subprocess.run(command, cwd=workdir, capture_output=True, check=False)
    except OSError as err:
        raise ConfigError(f"{program} cannot be started ({err.strerror}); give the path of a working zeek") from err
    finally:
        if plain != pcap:
            plain.unlink()
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise LogFormatError(f"zeek could not read {pcap}: {lines[-1]}; is it a whole pcap or pcapng, and Zeek 7 or later?")
    if not (workdir / "packetclip_packet.log").exists():
        raise LogFormatError(f"{pcap} gave no packetclip_packet.log: Zeek saw no IP packet in it; give another capture")
    return workdir


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
