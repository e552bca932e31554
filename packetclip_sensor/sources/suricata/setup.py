"""Says what a site's Suricata lacks for the packet log, from what Suricata itself says of its build and its configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.suricata.capture import OLDEST, Suricata, find_suricata

SCRIPT, PACKETS = "packetclip.lua", "packetclip_packet.log"
FOLDER = "`packetclip suricata-scripts` prints"
Found = Iterator[tuple[bool | None, str]]
"""True for what is well, False for what is missing, None for a thing worth a look; and the words, with the remedy."""


def inspect(config: Path, logs: Sequence[Path]) -> Found:
    """Look at program, configuration, script, outputs and log folder, one after another.

    Args:
        config: Suricata's. logs: the folders that the sensor reads.
    """
    suricata = find_suricata()
    if suricata is None:
        yield False, "no Suricata 7.0 or newer on PATH; install it, in Debian 12 from bookworm-backports"
        return
    _, build = _said(suricata, "--build-info")
    if "HAVE_LUA" not in build.split():
        yield False, f"Suricata {suricata.version} is built without Lua; install a package that has it, as Debian's and Ubuntu's"
        return
    yield True, f"Suricata {suricata.version}, built with Lua"
    code, dump = _said(suricata, "--dump-config", "-c", str(config))
    if code:
        reason = (dump.strip().splitlines() or ["no reason given"])[-1]
        yield False, f"{config}: Suricata cannot read it ({reason}); name its configuration with --suricata-config"
        return
    settings = dict(line.split(" = ", 1) for line in dump.splitlines() if " = " in line)
    yield from _rule(settings, config) if suricata.major == OLDEST else _output(settings, config)
    folder = Path(settings.get("default-log-dir", "/var/log/suricata"))
    yield from _events(settings, folder)
    yield from _folder(folder, logs)


def _said(suricata: Suricata, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([suricata.program, *arguments], capture_output=True, check=False, text=True, errors="backslashreplace")
    return done.returncode, done.stdout + done.stderr


def _on(value: str | None) -> bool:
    return (value or "").lower() in ("yes", "true", "on", "1")


def _rule(settings: dict[str, str], config: Path) -> Found:
    """7.0: Lua rules are allowed, and ours is among the rules, with its script where Suricata looks for it."""
    if not _on(settings.get("security.lua.allow-rules")):
        yield False, f"{config}: Lua rules are off; set security.lua.allow-rules: true in the node that is there"
    rules = Path(settings.get("default-rule-path", "/var/lib/suricata/rules"))
    named = [value for key, value in settings.items() if key.startswith("rule-files.")]
    files = [Path(path) for value in named for path in glob(str(rules / value))]  # noqa: PTH207  (it may be absolute)
    loaded = [path for path in files if path.is_file() and _has_rule(path)]
    if not loaded:
        yield False, f"{config}: no rule file of `rule-files` holds our rule; copy packetclip.rules to {rules} and name it there"
        return
    yield True, f"the rule is in {loaded[0]}"
    yield from _script(rules / SCRIPT)


def _has_rule(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        return any(f"lua:{SCRIPT};" in line and not line.lstrip().startswith("#") for line in lines)


def _output(settings: dict[str, str], config: Path) -> Found:
    """8.0: the script is among the outputs."""
    for at in _outputs(settings, "lua"):
        names = [value for key, value in settings.items() if key.startswith(f"{at}.scripts.")]
        if SCRIPT in names:
            yield from _script(Path(settings.get(f"{at}.scripts-dir", "."), SCRIPT))
            return
    yield (
        False,
        f"{config}: no enabled `lua` output names {SCRIPT}; add it to `outputs`, as README.md in the folder that {FOLDER} says",
    )


def _outputs(settings: dict[str, str], kind: str) -> list[str]:
    """Where the enabled outputs of a kind stand."""
    found = [f"{key}.{kind}" for key, value in settings.items() if key.count(".") == 1 and value == kind]
    return [at for at in found if at.startswith("outputs.") and _on(settings.get(f"{at}.enabled"))]


def _script(path: Path) -> Found:
    try:
        same = path.read_bytes() == (resource("suricata_scripts") / SCRIPT).read_bytes()
    except OSError as err:
        yield (
            False,
            f"{path} cannot be read ({err.strerror}); copy it there from the folder that {FOLDER}",
        )
        return
    if same:
        yield True, f"the script is {path}"
    else:
        yield None, f"{path} is not this sensor's; copy it again from the folder that {FOLDER}"


def _events(settings: dict[str, str], folder: Path) -> Found:
    """The rows of flows, which enrich alerts, and the community id in them."""
    for at in _outputs(settings, "eve-log"):
        kinds = [value for key, value in settings.items() if key.rpartition(".")[0] == f"{at}.types"]
        if "flow" not in kinds:
            continue
        file = folder / settings.get(f"{at}.filename", "eve.json")
        if settings.get(f"{at}.filetype", "regular") != "regular" or file.parent != folder:
            yield None, f"flows go to {file} as {settings.get(f'{at}.filetype')}; alerts take them from files in {folder} alone"
        elif not _on(settings.get(f"{at}.community-id")):
            yield (
                None,
                f"flows go to {file} without community id; set community-id: true there, which joins them with other logs",
            )
        else:
            yield True, f"flows go to {file}"
        return
    yield None, "no enabled eve-log output has the type `flow`; alerts will lack what a flow row has"


def _folder(folder: Path, logs: Sequence[Path]) -> Found:
    """Suricata has written the packet log, the sensor may read it, and looks there."""
    log = folder / PACKETS
    try:
        present = log.exists()
        readable = present and os.access(log, os.R_OK)
    except OSError:
        present, readable = True, False
    if not present:
        yield False, f"{log} is not there; restart Suricata, and look for PacketCLIP in what it logs"
    elif not readable:
        yield False, f"{log} cannot be read; let the sensor's user read it, for example by Suricata's group"
    elif not any(path in (log, folder) for path in logs):
        yield None, f"{log} is not among the sensor's `logs`; name {folder} there"
    else:
        yield True, f"packets are in {log}"
