"""The lab's tables: the plans that they give stay as recorded, mistakes in them are named, and what must hold for any mode."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.lab import __main__ as lab
from training.lab import attacks, benign, table
from training.lab.attacks import AttackScope, modes
from training.lab.catalogue import LONG_S, captures
from training.lab.clients import HABITS
from training.lab.expressions import Scope, assign, evaluate, names_of, vocabulary
from training.lab.plan import Capture, network
from training.lab.table import TABLES, profiles, services

TRAINING = ("first", "harden", "breadth", "servers", "world", "answers")
HELD_OUT = ("unseen", "world-unseen")
RECORDED = {
    "first": ("416bba8934d2ba50bb5ab52f0ffda70157890b21b5352d578ae3093c2c524aa9", "c794a05107302515"),
    "demo": ("37a4e142389e9842199d5b42d09bd639ca968e22738b7aff795ac289398f34f3", "4de5a18ca30e586d"),
    "unseen": ("5b04cb33e764582e4b73c643d76b5a57c91563cf0b821af2e8c66a1fd0f84e3b", "9d379c465fc11117"),
    "evade": ("20d6a4db41259700bd9fad26188317bd0426711d162707391d6df5c79db83236", "720337e0c2416acc"),
    "harden": ("bbcf2d7886ddbb30fe6afe64ba5031fc16cf00105c94825f5fc2dd89654eba9d", "2d7a5bdd168ca606"),
    "breadth": ("d82bdd240d73d88b1ec3b229e2f7af493cd5161b135a2fbb89f51200a2e17f91", "9f2e3ebddf4028af"),
    "servers": ("8c98cffaf919d669836e395e4f9f9ac4543a67b5b55bc6a9d541c4bdc08f0949", "f726a532e65fe145"),
    "chatter": ("ab14e1f318a48ba25920fbfb8d38600bc6263d957838da537e8311ab9c2893f0", "39ccf09852fb6476"),
    "world": ("0ed8278b80eb773fe37b1b8f5039578f9e13cbd3d7c770c8ec2da168753659b7", "91b880f24b44be6a"),
    "world-unseen": ("cfdd52bc85f553b21598fa952205907db8cadad322a4ee05835609d300a454c2", "f321c83b1165c230"),
    "answers": ("8fe8ac4449e141163a09256ae647b17bf6662bfd39ffd415e42204d915aa92e9", "a913b31fd283841e"),
    "tunnels": ("106123db32052d84386051d2154ccd65a119f686dc3fec89fd52246132bfad30", "a913b31fd283841e"),
    "tunnels-unseen": ("5f0663ca39c17796648213cd5ce1915909fd34a74a21bd3b32aa03ce1f8337fe", "7c34975f371b47de"),
}
"""Profile to the SHA-256 of what --plan prints and the start of that of all word lists as JSON; seed 1, without the word list of
Debian's dirb: where that is installed, `paths` draws from it, which moves every later draw of the same capture."""


@pytest.fixture(scope="module")
def plans() -> dict[str, list[Capture]]:
    """Every profile's captures for seed 1, without dirb's word list."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "WEB_PATHS", Path("/nonexistent"))
        return {profile: captures(profile, 1) for profile in profiles()}


def every(plans: dict[str, list[Capture]]) -> list[Capture]:
    return [capture for found in plans.values() for capture in found]


def tools(plans: dict[str, list[Capture]], label: str, *names: str) -> set[str]:
    return {run.tool for name in names for capture in plans[name] for run in capture.attacks if run.label == label}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("profile", RECORDED)
def test_the_plans_are_those_of_the_recorded_captures(profile: str, plans: dict[str, list[Capture]]) -> None:
    printed = "".join(f"{json.dumps(capture.described())}\n" for capture in plans[profile])
    words = json.dumps([capture.words for capture in plans[profile]])
    assert (digest(printed), digest(words)[:16]) == RECORDED[profile]


def test_another_seed_draws_another_plan(plans: dict[str, list[Capture]]) -> None:
    assert plans.keys() == RECORDED.keys()
    assert captures("demo", 2)[0].hosts != plans["demo"][0].hosts


def test_with_dirbs_words_paths_are_drawn_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "common.txt").write_text("admin\nbackup\nnaïve\ncgi-bin\n")
    monkeypatch.setattr(attacks, "WEB_PATHS", tmp_path / "common.txt")
    scope = scope_of("first")
    assert scope.paths(3) == "{work}/paths0.txt"
    assert sorted(scope.words["paths0.txt"]) == ["admin", "backup", "cgi-bin"]


# The language


def scope_of(profile: str) -> AttackScope:
    capture, rng = network("one", "first" if profile == "harden" else profile, 1, 20, vary=False)
    return AttackScope(Capture(**{**vars(capture), "profile": profile}), rng)


def test_texts_are_evaluated_from_left_to_right_and_variables_from_top_to_bottom() -> None:
    scope = scope_of("first")
    scope._rng.seed(5)
    drawn = random.Random(5)
    let = {
        "rate": "choice(10, 20, 30)",
        "one, two": "sample([1, 2, 3], 2)",
        "text": "{{randint(1, 99)}}-{{rate}}-{{choice(zones)}}",
    }
    names = assign(let, names_of(scope))
    rate, pair = drawn.choice((10, 20, 30)), drawn.sample([1, 2, 3], 2)
    assert (names["rate"], [names["one"], names["two"]]) == (rate, pair)
    assert names["text"] == f"{drawn.randint(1, 99)}-{rate}-{drawn.choice(scope.zones)}"
    assert evaluate("uniform(0, 1) < 0 or random()", names) == (drawn.uniform(0, 1), drawn.random())[1]


def test_a_hidden_value_is_one_of_the_tests_or_one_of_those_trained_on() -> None:
    assert {scope_of("evade").hidden([1], [2, 3]), scope_of("harden").hidden([1, 4], [2])} == {1, 2}


def test_habits_and_names_of_the_language_do_not_collide() -> None:
    assert not HABITS.keys() & vocabulary(benign.BenignScope)
    assert vocabulary(Scope) < vocabulary(AttackScope)


# Mistakes


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the tables that a test may spoil."""
    folder = tmp_path / "tables"
    shutil.copytree(TABLES, folder)
    cached = (table.networks, table.profiles, table.services, table.benign, benign.life, attacks.modes, attacks._macros)
    for module in (table, attacks):
        monkeypatch.setattr(module, "TABLES", folder)
    for found in cached:
        found.cache_clear()
    yield folder
    for found in cached:
        found.cache_clear()


MINE = {"target": ["files"], "tool": "mine -r", "command": "mine {{word_list('ports', ports(host))}} {{victim}}", "limit": 3}


def write(folder: Path, entry: dict[str, Any], label: str = "Port Scan", name: str = "port-mine") -> None:
    """A file of one mode, `MINE` with these changes; what is None is left out."""
    mode = {key: value for key, value in (MINE | entry).items() if value is not None}
    group = {"profiles": ["breadth"], "modes": {name: mode}}
    (folder / "attacks" / "mine.yaml").write_text(yaml.safe_dump({"class": label, "groups": [group]}))


def test_a_mode_is_added_by_an_entry_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(copy, {})
    assert lab.main(["--plan", "--profile", "breadth", "--only", "port-mine"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [plan["name"] for plan in found] == ["breadth-port-mine", "breadth-port-mine-2"]
    for plan in found:
        (run,) = plan["attacks"]
        victim = next(host["addresses"][0] for host in plan["hosts"] if host["name"] == "files").split("/")[0]
        assert (run["label"], run["tool"], run["limit_s"], run["victim"]) == ("Port Scan", "mine -r", 3, [victim])
        assert run["command"] == f"mine {{work}}/ports0.txt {victim}"


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says, one line, when it cannot use the tables."""
    assert lab.main(["--plan", "--profile", "breadth"]) == 2
    said = capsys.readouterr().err
    assert (said[:7], said.count("\n")) == ("error: ", 1)
    return said[7:-1]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"tol": "x"}, "port-mine: Object contains unknown field `tol`"),
        ({"tool": None}, "port-mine: Object missing required field `tool`"),
        ({"limit": 0}, "port-mine: Expected `int` >= 1 - at `$.limit`"),
        ({"command": "mine {{chose(1, 2)}}"}, "port-mine: command: unknown name chose in: mine {{chose(1, 2)}}{{''}}"),
        ({"let": {"rate": "choice(1"}}, "port-mine: let rate: unexpected '}', expected ')' in: choice(1"),
        ({"let": {"a": "b", "b": "1"}}, "port-mine: let a: unknown name b in: b"),
        ({"command": "mine {{mac(host, 1)}}"}, "port-mine: Scope.mac() takes 2 positional arguments but 3 were given"),
        ({"target": ["web", "wob"]}, "port-mine: target wob is none of web, files, infra, any, network"),
        ({"let": {"victims": "[at('web')]"}}, "port-mine: needs either a target or victims among its variables"),
        ({"profiles": ["breath"]}, "port-mine: profile breath is none of first, demo, unseen, evade"),
        ({"needs": ["pop"]}, "port-mine: needs pop is none of forms, smtp, imap, pop3, redis, dropbear"),
        ({"then": "syn-hpin"}, "port-mine: then syn-hpin is none of"),
        ({"through": "c1"}, "port-mine: through c1 is none of web, files, infra"),
    ],
)
def test_a_mistake_in_a_mode_is_one_line_with_file_and_mode(
    entry: dict[str, Any], message: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(copy, entry)
    assert refused(capsys).startswith(f"mine.yaml: {message}")


def test_a_class_that_no_profile_records_and_a_name_given_twice_are_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(copy, {}, label="Port Scn")
    assert refused(capsys).startswith("mine.yaml: port-mine: profile breadth: class Port Scn is none of Port Scan, ")
    write(copy, {}, name="os-hping")
    assert refused(capsys) == "os_scan.yaml: os-hping: there is one of that name in mine.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("benign.yaml", "  mirror:", "  startup:", "benign.yaml: line "),
        ("benign.yaml", "bursts:", "bursts: [", "benign.yaml: while parsing a"),
        ("benign.yaml", "- telnet(b", "- telnt(b", "benign.yaml: mirror: unknown name telnt in: telnt(b"),
        ("benign.yaml", "needs: [imap, pop3]", "needs: [pop]", "benign.yaml: mail: needs pop is none of forms, smtp"),
        ("benign.yaml", "defaults: {rate", "default: {rate", "benign.yaml: video: Object contains unknown field `default`"),
        ("benign.yaml", "    update: {sh", "    up: {sh", "benign.yaml: everyday: burst up is none of startup"),
        ("benign_world.yaml", "  sharing:", "  startup:", "benign_world.yaml: startup stands in another file too"),
        ("benign_world.yaml", "balance(", "balence(", "benign_world.yaml: balancer: unknown name balence in: balence("),
        ("benign_world.yaml", "login_services:", "login_service:", "benign_world.yaml: login_service is none of bursts, login"),
        ("profiles.yaml", "[stub, pages]", "[stub, page]", "profiles.yaml: breadth: burst page is none of startup"),
        ("profiles.yaml", "[os-nmap-ports", "[os-nmap", "profiles.yaml: first: again os-nmap is none of"),
        ("profiles.yaml", "turns: 2", "turn: 2", "profiles.yaml: breadth: Object contains unknown field `turn`"),
        ("networks.yaml", "thirds: [0, 127]", "thirds: [0]", "networks.yaml: first: Expected `array` of length 2, got 1"),
    ],
)
def test_a_mistake_in_another_table_is_one_line_with_file_and_entry(
    file: str, old: str, new: str, message: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    assert refused(capsys).startswith(message)


# What must hold for every mode


def test_training_and_the_unseen_share_no_program_in_a_class_and_no_tool_at_all(plans: dict[str, list[Capture]]) -> None:
    classes = profiles()["unseen"].classes
    for label in classes:
        trained, unseen = ({tool.split()[0].rstrip(",") for tool in tools(plans, label, *n)} for n in (TRAINING, HELD_OUT))
        assert not trained & unseen, label
    trained, unseen = ({tool for label in classes for tool in tools(plans, label, *n)} for n in (TRAINING, HELD_OUT))
    assert not trained & unseen


def test_every_evading_mode_but_forged_neighbours_is_trained_on_with_other_values(plans: dict[str, list[Capture]]) -> None:
    trained = {capture.name.replace("harden-", "evade-"): capture.attacks[0] for capture in plans["harden"]}
    tested = {capture.name: capture.attacks[0] for capture in plans["evade"]}
    assert tested.keys() - trained.keys() == {"evade-decoys-2"}
    for name, run in trained.items():
        assert run.tool == tested[name].tool, name
        assert run.command != tested[name].command, name


def test_commands_name_word_lists_and_scripts_that_are_there(plans: dict[str, list[Capture]]) -> None:
    for capture in every(plans):
        for run in capture.attacks:
            assert set(re.findall(r"\{work\}/([\w-]+\.txt)", run.command)) <= capture.words.keys(), capture.name
            scripts = re.findall(r"\{here\}/([\w/]+\.py)", run.command)
            assert all((TABLES.parent / script).exists() for script in scripts), capture.name


def test_every_attack_is_bounded_in_time_and_every_flood_in_packets(plans: dict[str, list[Capture]]) -> None:
    for capture in every(plans):
        last = max([run.at + run.limit_s for run in capture.attacks] or [0])
        if not capture.name.startswith(("world", "tunnels")):
            assert last <= (45 if len(capture.attacks) < 2 else 70), capture.name
        assert capture.seconds <= LONG_S + 5, capture.name
        for run in capture.attacks:
            for command in re.findall(r"(?:hping3|nping) [^;&]*", run.command):
                timed = f"timeout {'0.' if '--flood' in command else ''}" in run.command
                assert timed or re.search(r" (-c \d+|--scan) ", command), command


def test_a_mode_over_ipv6_has_ipv6_addresses_alone(plans: dict[str, list[Capture]]) -> None:
    names = {name for name, mode in modes().items() if mode.six}
    found = [capture for capture in every(plans) if capture.name.removeprefix("world-").removeprefix("unseen-") in names]
    assert len(found) == len(names)
    assert all(":" in address for capture in found for run in capture.attacks for address in run.attacker + run.victim)


def test_a_slow_attack_has_the_everyday_traffic_of_a_short_one(plans: dict[str, list[Capture]]) -> None:
    """Each habit acts on average no more often in eleven minutes than a short capture's in its time."""
    slow = [capture for capture in plans["world"] if capture.attacks and capture.attacks[0].limit_s == 660]
    assert len(slow) > 15
    for capture in slow:
        acts = [capture.seconds / habit.every for habit in capture.habits if habit.every]
        assert max(acts) < 60, capture.name
        assert capture.max_packets == 60000


def test_an_old_password_is_tried_at_most_twice_a_minute_where_guesses_are_slow(plans: dict[str, list[Capture]]) -> None:
    """Else a client of ours that is benign would look like the attack beside it."""
    stale = 0
    for capture in plans["world"] + plans["world-unseen"]:
        for habit in capture.habits:
            if f"{capture.password}x" in json.dumps(habit.params):
                stale += 1
                assert habit.every >= 30, (capture.name, habit.name)
    assert stale > 20


def test_a_host_that_is_made_to_attack_is_among_the_attackers(plans: dict[str, list[Capture]]) -> None:
    capture = next(capture for capture in plans["world"] if capture.name == "world-port-bounce")
    (run,) = capture.attacks
    own = [address for address in capture.host("att").plain() if ":" not in address]
    assert run.attacker == [*own, capture.host("files").address]
    assert run.victim == [capture.host("files").address, capture.host("iot").address]


def test_a_spread_attack_comes_from_four_addresses_that_its_labels_have(plans: dict[str, list[Capture]]) -> None:
    spread = [capture for capture in plans["evade"] if "-spread-" in capture.name]
    for capture in spread:
        ours = [address for address in capture.attacks[0].attacker if ":" not in address]
        assert len(ours) == 4
        assert all(address in capture.attacks[0].command for address in ours)
    assert spread


def test_benign_clients_use_a_login_service_wherever_it_stands(plans: dict[str, list[Capture]]) -> None:
    for capture in every(plans):
        standing = [service for service in capture.host("files").services if service.name in table.benign().login_services]
        for service in standing:
            used = [habit for habit in capture.habits if str(service.port) in json.dumps(habit.params)]
            assert {habit.host for habit in used} - {"att"}, capture.name
        needed = {need for run in capture.attacks for mode in modes().values() if mode.tool == run.tool for need in mode.needs}
        assert needed <= {service.name for service in standing}, capture.name


def test_captures_have_names_addresses_services_and_habits_that_work(plans: dict[str, list[Capture]]) -> None:
    names = [capture.name for capture in every(plans)]
    assert len(names) == len(set(names))
    assert all(len(f"pcl-{name}-iot") < 64 for name in names)
    assert {habit.name for capture in every(plans) for habit in capture.habits} == HABITS.keys()
    used = {"nginx" if s.name == "http" else s.name for c in every(plans) for host in c.hosts for s in host.services}
    software = {value for profile in profiles().values() for value in profile.web_server.get("software", [])}
    assert used | software == services().keys()
    for capture in every(plans):
        addresses = [address for host in capture.hosts for address in host.plain()]
        assert len(addresses) == len(set(addresses)), capture.name
