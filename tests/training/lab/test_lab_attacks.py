"""The attack modes of the profiles: enough of each class, nothing shared where nothing may be, and the lab's own tools."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training.missions import CLASS_MISSION
from training.lab import disguise, forms, logins, pace
from training.lab.attacks import MODES
from training.lab.catalogue import captures
from training.lab.plan import Capture
from training.lab.services import MAKERS
from training.lab.tools.rawflood import checksum

PROFILES = {name: captures(name, 1) for name in ("first", "unseen", "evade", "harden", "breadth", "servers")}
CLASSES = [label for label in CLASS_MISSION if label != "Benign"]
TOOLS = Path(forms.__file__).parent / "tools"


def tools(profile: str, label: str) -> set[str]:
    return {attack.tool for capture in PROFILES[profile] for attack in capture.attacks if attack.label == label}


def programs(found: set[str]) -> set[str]:
    return {tool.split()[0].rstrip(",") for tool in found}


@pytest.mark.parametrize("label", CLASSES)
def test_no_program_of_a_class_is_both_in_training_and_among_the_unseen(label: str) -> None:
    trained = tools("first", label) | tools("harden", label) | tools("breadth", label) | tools("servers", label)
    assert not programs(trained) & programs(tools("unseen", label))
    assert not trained & tools("unseen", label)


def test_no_tool_is_in_training_for_one_class_and_unseen_for_another() -> None:
    trained, unseen = (set().union(*(tools(profile, label) for label in CLASSES)) for profile in ("first", "unseen"))
    assert not trained & unseen


@pytest.mark.parametrize("label", CLASSES)
def test_each_class_has_nine_training_modes_and_three_captures_of_two_unseen_programs(label: str) -> None:
    modes = [mode for mode in MODES.values() if mode.label == label and mode.of("first")]
    assert len(modes) >= (30 if label == "Dictionary Attack" else 9)
    assert len([c for c in PROFILES["unseen"] if any(a.label == label for a in c.attacks)]) >= 3
    assert len(programs(tools("unseen", label))) >= 2


def test_the_unseen_set_has_twelve_benign_captures() -> None:
    assert len([capture for capture in PROFILES["unseen"] if not capture.attacks]) == 12


def test_every_kind_of_evasion_has_two_captures_with_a_twin_of_other_parameters() -> None:
    names = [capture.name for capture in PROFILES["evade"]]
    kinds = [re.fullmatch(r"evade-([a-z]+)-(\d+)", name) for name in names]
    assert all(kinds)
    found = {match[1]: sum(other[1] == match[1] for other in kinds if other) for match in kinds if match}
    assert found.keys() == {*pace.KINDS, *disguise.KINDS}
    assert min(found.values()) >= 2
    twins = {capture.name: capture for capture in PROFILES["harden"]}
    assert {name.replace("harden", "evade") for name in twins} == {*names} - {"evade-decoys-2"}
    for capture in PROFILES["evade"]:
        if capture.name == "evade-decoys-2":
            continue
        twin = twins[capture.name.replace("evade", "harden")]
        assert twin.attacks[0].tool == capture.attacks[0].tool
        assert twin.attacks[0].command != capture.attacks[0].command


def test_hardening_trains_in_the_address_plan_of_training() -> None:
    first = {capture.host("web").address.split(".")[0] for capture in PROFILES["first"]}
    assert {capture.host("web").address.split(".")[0] for capture in PROFILES["harden"]} <= first


def every() -> list[Capture]:
    return [capture for found in PROFILES.values() for capture in found]


def test_word_lists_and_tools_named_in_a_command_are_there() -> None:
    for capture in every():
        for attack in capture.attacks:
            named = set(re.findall(r"\{work\}/([\w-]+\.txt)", attack.command))
            assert named <= capture.words.keys(), capture.name
            scripts = re.findall(r"\{here\}/([\w/]+\.py)", attack.command)
            assert all((TOOLS.parent / script).exists() for script in scripts), capture.name


def test_every_attack_is_bounded_and_ends_within_forty_seconds() -> None:
    for capture in every():
        last = max([attack.at + attack.limit_s for attack in capture.attacks] or [0])
        assert last <= (45 if len(capture.attacks) < 2 else 70), capture.name
        for attack in capture.attacks:
            for command in re.findall(r"(?:hping3|nping) [^;&]*", attack.command):
                timed = f"timeout {'0.' if '--flood' in command else ''}" in attack.command
                assert timed or re.search(r" (-c \d+|--scan) ", command), command


def test_a_mode_over_ipv6_attacks_an_ipv6_address() -> None:
    names = {mode: "unseen-" * (MODES[mode].profile == "unseen") + mode.replace("_", "-") for mode in MODES if MODES[mode].six}
    found = {capture.name: capture for capture in every()}
    assert len(names) == 11
    for name in names.values():
        attack = found[name].attacks[0]
        assert all(":" in address for address in attack.attacker + attack.victim), name


def test_doors_stand_only_where_a_mode_needs_them_and_benign_clients_use_them() -> None:
    for capture in every():
        doors = [service for service in capture.host("files").services if service.name in logins.PORTS]
        if doors:
            (door,) = doors
            assert door.name in MAKERS
            used = [habit for habit in capture.habits if str(door.port) in json.dumps(habit.params)]
            assert {habit.host for habit in used} - {"att"}, capture.name
        else:
            assert capture.attacks == [] or not any(attack.command.count("{here}/forms") for attack in capture.attacks)


def test_several_attackers_stand_in_the_labels_of_spread_attacks() -> None:
    spread = [capture for capture in PROFILES["evade"] if "-spread-" in capture.name]
    assert len(spread) == 4
    for capture in spread:
        ours = [address for address in capture.attacks[0].attacker if ":" not in address]
        assert len(ours) == 4
        assert all(address in capture.attacks[0].command for address in ours)


def served(kind: str) -> tuple[int, threading.Event]:
    """A login server of the lab's own in a thread: its port, and the event that ends it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up, over = threading.Event(), threading.Event()

    async def run() -> None:
        door = forms.Door("maria", "right-1", 0.0)
        server = await asyncio.start_server(door.forms if kind == "forms" else door.smtp, "127.0.0.1", port)
        up.set()
        while not over.is_set():
            await asyncio.sleep(0.05)
        server.close()

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    assert up.wait(60)
    return port, over


def test_the_form_opens_to_the_right_password_only() -> None:
    port, over = served("forms")
    answers = []
    for password in ("wrong", "right-1"):
        body = f"user=maria&password={password}"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as made:
            made.sendall(f"POST /login HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            answers.append(b"".join(iter(lambda made=made: made.recv(4000), b"")))
    over.set()
    assert b"Invalid login" in answers[0]
    assert answers[1].startswith(b"HTTP/1.1 302 Found\r\n")


@pytest.mark.parametrize(("kind", "server"), [("smtp", "smtp"), ("form", "forms")])
def test_the_guesser_tries_until_its_time_is_over(kind: str, server: str, tmp_path: Path) -> None:
    port, over = served(server)
    (tmp_path / "users").write_text("root\nmaria\n")
    (tmp_path / "words").write_text("a\nb\n")
    words = ["--users", str(tmp_path / "users"), "--passwords", str(tmp_path / "words")]
    more = ["--pause", "0.1", "--seconds", "0.5"]
    command = [sys.executable, str(TOOLS / "guess.py"), kind, "127.0.0.1", str(port), *words, *more]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    over.set()
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_sweep_asks_every_port_once() -> None:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in servers]
    command = [sys.executable, str(TOOLS / "sweep.py"), "127.0.0.1", ",".join(map(str, ports)), "--shuffle", "--gap", "0.01"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    for server in servers:
        server.settimeout(2)
        server.accept()[0].close()
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        server.close()


def test_the_slow_client_holds_unfinished_requests(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, str(TOOLS / "slowhold.py"), "headers", "127.0.0.1", port, "--sockets", "2", "--spread", "0.1"]
        with subprocess.Popen([*command, "--pause", "0.2", "--seconds", "1.5"]) as ran:
            server.settimeout(5)
            held = [server.accept()[0] for _ in range(2)]
            said = [b"".join(iter(lambda made=made: made.recv(4000), b"")) for made in held]
            assert ran.wait(10) == 0
    assert all(text.startswith(b"GET / HTTP/1.1\r\n") and text.count(b"\r\nX-") >= 2 for text in said)
    assert not any(b"\r\n\r\n" in text for text in said)


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 60, 7238, 0x4000, 64, 6, 0, bytes([172, 16, 10, 99]), bytes([172, 16, 10, 12]))
    assert checksum(header) == 0xB1E6


def test_names_are_unique_over_all_profiles() -> None:
    names = [capture.name for capture in every()]
    assert len(names) == len(set(names)) == len(list(itertools.chain(*PROFILES.values())))
    assert all(len(f"pcl-{name}-iot") < 64 for name in names)
