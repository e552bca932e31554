"""What `packetclip check --source suricata` says of a site's Suricata, by what Suricata itself says of its configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from suricata_run import suricata_of

from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.suricata import setup

SCRIPTS = resource("suricata_scripts")
RULE = """security: {{lua: {{allow-rules: true}}}}
default-rule-path: {place}
rule-files: [packetclip.rules]
"""
EVENTS = """outputs:
  - eve-log:
      enabled: yes
      filename: eve.json
      community-id: true
      types: [alert, flow]
"""
SCRIPT = """  - lua:
      enabled: yes
      scripts-dir: {place}
      scripts: [packetclip.lua]
"""
NO_FLOWS, NO_ID = {"[alert, flow]": "[alert, dns]"}, {"community-id: true": "community-id: false"}


@pytest.fixture(params=[7, 8], ids=["7.0", "8.0"])
def major(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A Suricata of this version on PATH, and its script and rule in tmp_path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "suricata").symlink_to(suricata_of(request.param).program)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("packetclip.lua", "packetclip.rules"):
        shutil.copy(SCRIPTS / name, tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "packetclip_packet.log").touch()
    return int(request.param)


def said(tmp_path: Path, major: int, changes: dict[str, str]) -> list[tuple[bool | None, str]]:
    """What is found with a configuration in which all is well, but for these changes of its text."""
    text = f"%YAML 1.1\n---\ndefault-log-dir: {tmp_path}/logs\n"
    text += "".join(part.format(place=tmp_path) for part in ([RULE, EVENTS] if major == 7 else [EVENTS, SCRIPT]))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "suricata.yaml").write_text(text)
    return list(setup.inspect(tmp_path / "suricata.yaml", [tmp_path / "logs"]))


def wrong(found: list[tuple[bool | None, str]]) -> list[str]:
    return [words for ok, words in found if ok is not True]


def test_all_is_well(major: int, tmp_path: Path) -> None:
    found = said(tmp_path, major, {})
    assert wrong(found) == []
    rule = ["the rule is in"] if major == 7 else []
    for (_, words), begin in zip(found, ["Suricata", *rule, "the script is", "flows go to", "packets are in"], strict=True):
        assert words.startswith(begin)


def test_what_is_missing_is_told_with_the_remedy(major: int, tmp_path: Path) -> None:
    (told,) = wrong(said(tmp_path, major, NO_FLOWS))
    assert told == "no enabled eve-log output has the type `flow`; alerts will lack what a flow row has"
    (told,) = wrong(said(tmp_path, major, NO_ID))
    assert "without community id; set community-id: true there" in told
    (tmp_path / "packetclip.lua").write_text("-- another")
    (told,) = wrong(said(tmp_path, major, {}))
    assert "is not this sensor's; copy it again" in told
    (tmp_path / "packetclip.lua").unlink()
    (told,) = wrong(said(tmp_path, major, {}))
    assert "packetclip.lua cannot be read (No such file or directory); copy it there" in told
    shutil.copy(SCRIPTS / "packetclip.lua", tmp_path)
    shutil.rmtree(tmp_path / "logs")
    (told,) = wrong(said(tmp_path, major, {}))
    assert "packetclip_packet.log is not there; restart Suricata" in told


def test_the_way_of_loading_is_that_of_the_version(major: int, tmp_path: Path) -> None:
    if major == 7:
        told = wrong(said(tmp_path, major, {"allow-rules: true": "allow-rules: no", "packetclip.rules": "suricata.rules"}))
        assert len(told) == 2
        assert "Lua rules are off; set security.lua.allow-rules: true" in told[0]
        assert f"no rule file of `rule-files` holds our rule; copy packetclip.rules to {tmp_path} and name it there" in told[1]
    else:
        (one,) = wrong(said(tmp_path, major, {"[packetclip.lua]": "[other.lua]"}))
        assert "no enabled `lua` output names packetclip.lua; add it to `outputs`" in one


def test_a_configuration_that_suricata_cannot_read_and_no_suricata_are_named(
    major: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (told,) = wrong(list(setup.inspect(tmp_path / "none.yaml", [])))
    assert "none.yaml: Suricata cannot read it (" in told
    assert "name its configuration with --suricata-config" in told
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(setup.inspect(tmp_path / "none.yaml", [])) == [
        (False, "no Suricata 7.0 or newer on PATH; install it, in Debian 12 from bookworm-backports")
    ]
