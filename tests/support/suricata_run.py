"""Suricata for tests: the system's 7.0, and the 8.0 that tests/install_suricata8.sh puts beside it."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path

from machine import unavailable

from packetclip_sensor.sources.suricata.capture import Suricata, find_suricata

DATA = Path(__file__).parents[1] / "data"
PROGRAMS = {7: "suricata", 8: os.environ.get("PACKETCLIP_TEST_SURICATA8", "/var/tmp/packetclip-suricata8/suricata")}
_find = cache(find_suricata)


def suricata_of(major: int) -> Suricata:
    """Suricata of this version; the test skips with the reason where there is none."""
    found = _find(PROGRAMS[major])
    if found is None or found.major != major:
        reason = f"no Suricata {major}.0: {'tests/install_deps.sh' if major == 7 else 'tests/install_suricata8.sh'} installs it"
        if major == 7:
            unavailable(reason)
        import pytest

        pytest.skip(reason)
    return found


def unpacked(capture: str, folder: Path) -> Path:
    """A capture of tests/data as a plain file in `folder`."""
    pcap = folder / f"{capture}.pcap"
    pcap.write_bytes(gzip.decompress((DATA / capture / "capture.pcap.gz").read_bytes()))
    return pcap
