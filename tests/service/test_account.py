"""The commands of README that make the sensor's account let it read Zeek's logs, whoever owns these, and join no group."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/install.md", "systemd/packetclip.service"])
def test_the_account_is_made_without_further_groups(page: str) -> None:
    [made] = re.findall(r"useradd --system.*", (ROOT / page).read_text(encoding="utf-8"))
    assert made.endswith(" packetclip")
    assert "-G" not in made
    assert "--groups" not in made


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setfacl"), reason="needs root and setfacl (apt install acl)")
@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_an_account_without_groups_reads_roots_logs_those_to_come_and_their_archives(page: str) -> None:
    """As a Zeek that was built from source leaves them with a strict umask; below /tmp, since pytest's folders are root's."""
    command, *_ = re.findall(r"setfacl -R -m .*?(?=    #|\n)", (ROOT / page).read_text(encoding="utf-8"))
    home = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    before = os.umask(0o027)
    try:
        home.chmod(0o755)
        for folder in ("logs", "spool/zeek"):
            (home / folder).mkdir(parents=True)
        (home / "spool").chmod(0o750)
        there = home / "spool" / "zeek" / "before.log"
        there.write_text("before ")
        words = shlex.split(command.replace("/opt/zeek", str(home)).replace("u:packetclip:", "u:nobody:"))
        subprocess.run(words, check=True)
        log = home / "spool" / "zeek" / "packetclip_packet.log"
        log.write_text("growing ")
        (home / "logs" / "2026-11-30").mkdir()
        archived = home / "logs" / "2026-11-30" / "packetclip_packet.log"
        archived.write_text("archived")
        read = subprocess.run(
            ["sh", "-c", 'id -G; cat "$@"', "-", there, log, archived],
            user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.umask(before)
        shutil.rmtree(home)
    assert (read.stderr, read.stdout) == ("", "65534\nbefore growing archived")
