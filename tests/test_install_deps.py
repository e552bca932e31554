"""What `make test` installs for itself: it waits for another apt instead of failing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "install_deps.sh"
LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4711 (apt-get)"


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("said", "failures", "code"), [(LOCKED, 0, 0), (LOCKED, 3, 0), ("E: no network", 1, 1)])
def test_another_apt_is_waited_for(tmp_path: Path, said: str, failures: int, code: int) -> None:
    """On a machine with nothing but a package manager, whose lists another one holds for a while."""
    for name in ("bash", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    program(tmp_path, "id", "echo 0")
    program(tmp_path, "sleep", f"echo sleep $1 >> {tmp_path}/calls")
    program(tmp_path, "apt-cache", "true")
    program(tmp_path, "suricata", "echo This is Suricata version 7.0.10 RELEASE")
    counting = f"n=0; while read -r line; do [[ $line == *update* ]] && n=$((n + 1)); done < {tmp_path}/calls"
    fails = f'{counting}; [[ $* == *update* && $n -le {failures} ]] && {{ echo "{said}" >&2; exit 100; }}; exit 0'
    program(tmp_path, "apt-get", f"echo apt-get $* >> {tmp_path}/calls; {fails}")
    ran = subprocess.run([tmp_path / "bash", SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all("-o DPkg::Lock::Timeout=600" in call for call in calls if call.startswith("apt-get"))
    if code:
        assert said in ran.stderr
        assert [call.split()[0] for call in calls] == ["apt-get"]
    else:
        assert calls.count("sleep 5") == failures
        assert " install -y --no-install-recommends " in calls[-1]
        assert "maven" in calls[-1]
