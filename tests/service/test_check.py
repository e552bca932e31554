"""`packetclip check`: every mistake in a line with its remedy, and the exit code."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altered_captures
import pytest
import yaml
from factories import MISSIONS
from fake_cluster import FLEET, STREAM, URL, Cluster, packaged, stream
from machine import GIB, disk
from snapshot import compare, kept
from tailing import append

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Position
from packetclip_sensor.service import checkpoint

SYN = "4500003c000040004006b1e60a0000050a0000099c4000500000000000000000a002faf0917000000204"
DENIED = (403, {"error": {"reason": "unauthorized"}})
DATA = Path(__file__).parents[1] / "data"
SAID = Path(__file__).parent / "check.txt"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(resource("model/shipped"))


class World:
    """A sensor with a good set-up, which a case spoils."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.logs, self.cluster = folder / "logs", Cluster()
        self.log = self.packet_log()

    def packet_log(self, *, ts: float | None = None, folder: str = "logs") -> Path:
        path = self.folder / folder / "packetclip_packet.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "ts": time.time() - 1 if ts is None else ts, "uid": "C1", "id.orig_h": "10.0.0.5", "id.orig_p": 40000,
            "id.resp_h": "10.0.0.9", "id.resp_p": 80, "proto": "tcp", "is_orig": True, "n": 1, "len": 60,
            "data": base64.b64encode(bytes.fromhex(SYN)).decode(),
        }  # fmt: skip
        path.write_text(json.dumps(row) + "\n")
        return path

    def other_logs(self, **texts: str) -> None:
        self.log.unlink()
        for name, text in texts.items():
            (self.logs / f"{name}.log").write_text(text)

    def set_up(self, **options: Any) -> dict[str, Any]:
        """An Elasticsearch in which everything stands, but for `options` of the cluster; settings for it."""
        self.cluster.things |= {thing.path: dict(thing.body) for thing in templates.templates("packetclip.alert", MISSIONS)}
        for name, value in options.items():
            setattr(self.cluster, name, value)
        return self.elasticsearch()

    def elasticsearch(self, **options: Any) -> dict[str, Any]:
        self.cluster.start(self.monkeypatch)
        return {"sink": {"elasticsearch": {"hosts": [URL], **options}}, "health": {"documents_s": 0}}

    def check(self, **settings: Any) -> tuple[int, list[str]]:
        path = self.folder / "sensor.yaml"
        path.write_text(yaml.safe_dump({"logs": ["logs"], **settings}))
        code = main(["check", "--config", str(path)])
        assert self.cluster.requests == []  # it only asks
        return code, self._capsys.readouterr().out.splitlines()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle) -> World:
    """The shipped model is opened once for all tests here."""
    really = Bundle.open
    monkeypatch.setattr(Bundle, "open", lambda path: bundle if path == resource("model/shipped") else really(path))
    return World(tmp_path, monkeypatch, capsys)


def no_write(world: World) -> dict[str, Any]:
    """Tests may run as root, whom nothing stops."""
    may = os.access
    world.monkeypatch.setattr(os, "access", lambda path, *rest, **more: path != world.folder and may(path, *rest, **more))
    return {}


def in_roots_group(world: World) -> None:
    """A user who is not root, whatever the tests' own is."""
    world.monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    world.monkeypatch.setattr(os, "getgroups", lambda: [65534, 0])


def file_in_place(world: World) -> dict[str, Any]:
    (world.folder / "file").write_text("")
    return {"state_dir": "file/state", "zeek_feedback": {"path": "file/v"}}


def altered_model(world: World) -> dict[str, Any]:
    (world.folder / "model").mkdir()
    for path in resource("model/shipped").iterdir():
        (world.folder / "model" / path.name).write_bytes(path.read_bytes())
    (world.folder / "model" / "graphs.json").write_text("[]")
    return {"model": "model"}


def other_models_state(world: World) -> dict[str, Any]:
    checkpoint.save(world.folder / "state" / "state.json", checkpoint.State(model_version="old"))
    return {"policy": {"thresholds": {"DoS": 1.0}, "open_packets": 65}}


def packed_log(world: World) -> None:
    (world.logs / "packetclip_packet.1.log.lz4").write_bytes(bytes.fromhex("04224d18"))


def log_gone(world: World) -> None:
    known = Position(f"{world.logs}/packetclip_packet.log", 1, 2, 3, "ab" * 32, 5000)
    checkpoint.save(world.folder / "state" / "state.json", checkpoint.State(positions=(known,)))


def rejected_lines(world: World) -> None:
    with Rejects(world.folder / "state" / "rejects.jsonl") as rejects:
        rejects.add("/logs/\x1b[31m.log", 0, "not JSON", b"x")
    os.utime(world.folder / "state" / "rejects.jsonl", (time.time() - 7300,) * 2)


def times_as_text(world: World) -> None:
    now = datetime.now(UTC).isoformat()
    world.log.write_text(re.sub('(?<="ts": )[0-9.]+', f'"{now}"', world.log.read_text()))


def calibration(world: World) -> dict[str, Any]:
    logs = {"paths": [], "first": "", "last": "", "hours": 1.0, "packets": 1, "windows": 1}
    made = {"format": 1, "model_version": "other", "model_sha256": "0" * 64, "made": "2026-01-01", "alerts_per_day": 1.0}
    made |= {"logs": logs, "thresholds": dict.fromkeys(MISSIONS.names, 0.9)}
    made |= {"thresholds_before": {}, "alerts": {}, "alerts_before": {}}
    (world.folder / "calibration.yaml").write_text(yaml.safe_dump(made))
    return {"policy": {"calibration": "calibration.yaml"}}


def write_only_key(world: World, version: int | None) -> dict[str, Any]:
    """A key that may see neither health nor templates, and a stream that was made with this version of the mapping."""
    world.cluster.privileges = {"auto_configure", "create_doc"}
    world.cluster.refuse = {"/_cluster/health": DENIED, "/_component_template": DENIED}
    if version is not None:
        world.cluster.streams[STREAM] = {"mappings": {"_meta": {"packetclip": {"version": version}}}, "settings": {}}
    return world.elasticsearch(manage_templates=False)


def package(world: World, *lacking: str) -> dict[str, Any]:
    packaged(world.cluster, *lacking)
    return world.elasticsearch()


def packages_stream(world: World) -> dict[str, Any]:
    """Of which a key that may only write sees the mapping alone."""
    settings = write_only_key(world, 0)
    world.cluster.streams[STREAM]["mappings"] = templates.mapping(missions=MISSIONS) | {"_meta": FLEET}
    return settings


def answer(world: World, status: int, body: Any) -> dict[str, Any]:
    world.monkeypatch.setenv("KEY", "a2V5OnNlY3JldA==")
    world.cluster.refuse["/"] = (status, body)
    return world.elasticsearch(api_key_env="KEY")


def old_template(world: World) -> dict[str, Any]:
    world.set_up()
    world.cluster.things["/_component_template/logs-packetclip.alert@packetclip"]["version"] = 0
    return world.elasticsearch(manage_templates=False)


def rival(world: World) -> dict[str, Any]:
    world.cluster.things["/_index_template/site"] = {"index_patterns": ["logs-*-*"], "priority": 300}
    return world.set_up()


def files(name: str, text: str) -> Callable[[World], None]:
    return lambda world: world.other_logs(**{name: text})


def rotated(world: World, *current: str, there: bool = True) -> dict[str, Any]:
    """zeekctl's layout after two days, with these logs in `current`."""
    for day in (29, 30):
        log = world.folder / "zeek" / f"2026-11-{day}" / "packetclip_packet.10:00:00-11:00:00.log.gz"
        log.parent.mkdir(parents=True)
        log.write_bytes(gzip.compress(world.log.read_bytes()))
        os.utime(log, (datetime(2026, 11, day, 11, tzinfo=UTC).timestamp(),) * 2)
    if there:
        (world.folder / "zeek" / "current").mkdir()
    for name in current:
        (world.folder / "zeek" / "current" / f"{name}.log").write_text("{}\n")
    return {"logs": ["zeek/current"]}


def started(world: World, *scripts: str) -> None:
    """A Zeek that has seen no packet: its list of these scripts of a package."""
    world.other_logs(loaded_scripts="".join(f"/opt/zeek/share/zeek/packages/mine/./{name}.zeek\n" for name in scripts))


def pipe_in_its_place(world: World) -> None:
    """Who opened it would wait for ever."""
    world.other_logs()
    os.mkfifo(world.logs / "loaded_scripts.log")


def rotated_beside(world: World) -> None:
    """By a rotation that leaves logs in their folder."""
    rotated = world.log.rename(world.logs / "packetclip_packet.2026-11-30-11-00-00.log")
    os.utime(rotated, (time.time() - 5 * 3600,) * 2)


def another_zeeks(world: World) -> dict[str, Any]:
    (world.folder / "other").mkdir()
    return rotated(world) | {"logs": ["zeek/current", "other"], "archives": ["zeek"]}


def other_engines(world: World, **texts: str) -> dict[str, Any]:
    (world.folder / "other").mkdir()
    for name, text in texts.items():
        (world.folder / "other" / {"notice": "notice.log", "eve": "eve.json"}[name]).write_text(text)
    return {"other_alerts": ["other"]}


def shared_feedback(world: World) -> dict[str, Any]:
    (world.folder / "shared").mkdir(mode=0o2770)
    (world.folder / "shared").chmod(0o2770)
    return {"zeek_feedback": {"path": "shared/verdicts.tsv"}}


CASES: dict[str, Callable[[World], dict[str, Any] | None]] = {
    "a folder for Zeek that others may write": shared_feedback,
    "all is well": lambda world: {},
    "rotated logs are looked for": lambda world: {"logs": [world.packet_log(folder="zeek/current").parent.as_posix()]},
    "nothing logged since the last rotation": rotated,
    "only connections ended since the last rotation": lambda world: rotated(world, "conn", "packetclip_flow"),
    "the package was taken out after the last rotation": lambda world: rotated(world, "conn"),
    "rotated logs, and a folder of Zeek that is not there": lambda world: rotated(world, there=False),
    "rotated logs in the folder itself": rotated_beside,
    "a Zeek with the package that has seen no packet": lambda world: started(world, "packets", "flows", "protocols"),
    "a Zeek without the package that has seen no packet": lambda world: started(world, "packets"),
    "a pipe in place of Zeek's list of scripts": pipe_in_its_place,
    "the rotated logs of another Zeek": another_zeeks,
    "a user in group root": in_roots_group,
    "an archive that is not there": lambda world: {"archives": ["nowhere"]},
    "an empty log folder": lambda world: world.other_logs(),
    "Zeek's logs without ours": files("conn", '{"ts": 1}\n'),
    "only the flow log": files("packetclip_flow", "{}\n"),
    "a TSV log": files("packetclip_packet", "#separator \\x09\n"),
    "a log of another form": files("packetclip_packet", '{"ts": "soon"}\n'),
    "bad lines at the end of a log": lambda world: append(world.log, b"{}\n{}\n"),
    "a half-written line": lambda world: append(world.log, b'{"ts":'),
    "times as ISO 8601": times_as_text,
    "a log packed in a way that nothing unpacks": packed_log,
    "a log of the state that is gone": log_gone,
    "rejected lines": rejected_lines,
    "an empty log": files("packetclip_packet", ""),
    "no folder named": lambda world: {"logs": []},
    "a folder that is not there": lambda world: {"logs": ["nowhere", "logs"]},
    "an old log": lambda world: os.utime(world.log, (time.time() - 3 * 86400,) * 2),
    "a log from the future": lambda world: world.packet_log(ts=time.time() + 7500) and None,
    "a log that lags": lambda world: world.packet_log(ts=time.time() - 7500) and None,
    "a full disk": lambda world: disk(world.monkeypatch, free=200 << 20),
    "a nearly full disk": lambda world: disk(world.monkeypatch, free=8 * GIB),
    "a large disk with 6 % free": lambda world: disk(world.monkeypatch, free=12 * GIB),
    "no inodes": lambda world: disk(world.monkeypatch, free=12 * GIB, inodes=0),
    "a folder that cannot be written": no_write,
    "a file in the folder's place": file_in_place,
    "verdicts for Zeek": lambda world: {"zeek_feedback": {"path": "v.tsv"}},
    "alerts of other engines": lambda world: other_engines(world, notice='{"ts":1,"note":"Scan::Port_Scan"}\n', eve=""),
    "alerts of other engines that are not there": other_engines,
    "a notice.log that is TSV": lambda world: other_engines(world, notice="#separator \\x09\n"),
    "an eve.json of another form": lambda world: other_engines(world, eve="[]\n"),
    "no model": lambda world: {"model": "nowhere"},
    "an altered model": altered_model,
    "a configuration that does not fit the model": other_models_state,
    "as many connections as a window remembers": lambda world: {"policy": {"least": {"Brute Force": {"connections": 64}}}},
    "more connections than a window remembers": lambda world: {"policy": {"brute_force_connections": 65}},
    "a threshold for a mission that the model lacks": lambda world: {"policy": {"thresholds": {"Reconaissance": 0.9}}},
    "a margin for a mission that the model lacks": lambda world: {"policy": {"margins": {"Reconaissance": 1}}},
    "least packets of a mission that the model lacks": lambda world: {"policy": {"least": {"Reconaissance": {"packets": 3}}}},
    "a calibration for another model": calibration,
    "no calibration": lambda world: {"policy": {"calibration": "none.yaml"}},
    "Elasticsearch is set up": lambda world: world.set_up(),
    "templates are missing, the sensor puts them": lambda world: world.elasticsearch(),
    "templates are missing, the sensor may not put them": lambda world: world.elasticsearch(manage_templates=False),
    "an old template": old_template,
    "another's template takes the name": rival,
    "no right to create": lambda world: world.set_up(privileges={"auto_configure"}),
    "no right to put templates": lambda world: world.set_up(privileges={"auto_configure", "create_doc"}),
    "no right to read templates": lambda world: world.set_up(refuse={"/_component_template": DENIED}),
    "a key that may only write": lambda world: write_only_key(world, templates.version_of(templates.mapping())),
    "the same, no stream yet": lambda world: write_only_key(world, None),
    "the same, an older stream": lambda world: write_only_key(world, templates.version_of(templates.mapping()) - 1),
    "the same, another's stream": lambda world: write_only_key(world, 0),
    "the integration package is installed": package,
    "an integration package that is older than the sensor": lambda world: package(
        world, "mission", "class", "probability", "graphs"
    ),
    "the integration package's stream, a key that may only write": packages_stream,
    "the disk of Elasticsearch is full": lambda world: world.set_up(
        streams={STREAM: stream() | {"blocks": {"index.blocks.read_only_allow_delete": "true"}}}
    ),
    "a write block": lambda world: world.set_up(streams={STREAM: stream() | {"blocks": {"index.blocks.write": "true"}}}),
    "a wrong key": lambda world: answer(world, 401, {"error": {"reason": "unable to authenticate"}}),
    "a proxy that reaches nothing": lambda world: answer(world, 502, "<html>bad gateway</html>"),
}
"""What is spoiled, and the settings that go with it."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_found_is_said_with_its_remedy(world: World, case: str) -> None:
    """What differs from a good set-up, as it is kept in check.txt."""
    _, good = world.check()
    code, lines = world.check(**(CASES[case](world) or {}))
    assert code == any(line.startswith("WRONG") for line in lines)
    assert {line.split()[1] for line in good} <= {line.split()[1] for line in lines}  # all is looked at in any case
    new = [line for line in lines if (line not in good or case == "all is well") and not line.startswith("ok    model")]
    for said, instead in (
        (re.escape(str(world.folder)), "AT"),
        (re.escape(str(resource("model/shipped"))), "SHIPPED"),
        (r"[0-9a-f]{12}(?=\.\.\.)", "SHA256"),
        (r"(?<=this one is )[^:]+", "VERSION"),
        (r"(?<=is above )[0-9.]+", "CEILING"),
        (r"(?<=mapping version )\d+|(?<=mapping has version )\d+|(?<=writes version )\d+", "N"),
    ):
        new = [re.sub(said, instead, line) for line in new]
    compare(SAID, case, new)


def test_the_kept_file_has_these_cases_and_no_other() -> None:
    assert set(kept(SAID)) == set(CASES)


def test_a_state_folder_of_another_sensor_is_wrong(world: World) -> None:
    with checkpoint.lock(world.folder / "state"):
        code, lines = world.check()
    assert code == 1
    words = f"is in use by another sensor (process {os.getpid()}); stop that one or name another state_dir"
    assert f"WRONG state    {world.folder}/state {words}" in lines


def test_the_same_sensor_running_is_no_mistake(world: World) -> None:
    """A stand-in with the words of `packetclip run --config sensor.yaml`, in the file's folder."""
    code = (
        "import sys; from pathlib import Path; from packetclip_sensor.service import checkpoint\n"
        "with checkpoint.lock(Path('state')): print('.', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, "run", "--config", "sensor.yaml"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, cwd=world.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        code_, lines = world.check()
        process.communicate()
    assert code_ == 0, lines
    assert any(f"the sensor of this configuration is running (process {process.pid})" in line for line in lines)


def test_margins_are_told(world: World) -> None:
    _, lines = world.check(policy={"margins": {"DoS": 0, "Brute Force": 2.5}})
    assert any(line.endswith(", and together with others down to Brute Force 2.5 logits below") for line in lines)
    assert not any("together" in line for line in world.check()[1])


def recorded(capture: str, log: str) -> list[bytes]:
    return altered_captures.lines(DATA / capture / f"packetclip_{log}.log.gz")


def of_the_link(lines: list[str]) -> list[str]:
    """What `check` says of lateness, copies and connections."""
    return [
        re.sub(r"\S*/(packetclip_\w+\.log)", r"\1", line)
        for line in lines
        if re.search(r"come up to|are copies|TCP connections", line)
    ]


def test_the_lateness_of_the_log_is_measured_and_the_value_named(world: World) -> None:
    late = altered_captures.by_workers(recorded("demo-vuln-gobuster", "packet"), 4)
    world.log.write_bytes(b"".join(late))
    _, lines = world.check()
    assert of_the_link(lines) == [
        "look  logs     packetclip_packet.log: lines come up to 1.6 s later than others; set lateness_s: 2"
    ]
    _, lines = world.check(lateness_s=2)
    assert of_the_link(lines) == [
        "ok    logs     packetclip_packet.log: lines come up to 1.6 s later than others, lateness_s is 2"
    ]
    world.log.write_bytes(b"".join(recorded("demo-vuln-gobuster", "packet")))
    assert of_the_link(world.check()[1]) == []


def test_copies_one_way_connections_and_gaps_are_worth_a_look(world: World) -> None:
    rows = [json.loads(line) for line in recorded("demo-vuln-gobuster", "packet")]
    twice = [json.dumps(row | {"ts": row["ts"] + late}) for row in rows for late in (0.0, 20e-6)]
    world.log.write_text("\n".join(twice) + "\n")
    flows = [json.loads(line) for line in recorded("demo-vuln-gobuster", "flow")]
    spoiled = [json.dumps(flow | {"resp_pkts": 0, "orig_pkts": 9, "missed_bytes": 1460}) for flow in flows]
    (world.logs / "packetclip_flow.log").write_text("\n".join(spoiled) + "\n")
    code, lines = world.check()
    assert (code, [line[:50] for line in of_the_link(lines)]) == (
        0,
        [
            "look  logs     packetclip_packet.log: 49% of the l",
            "look  logs     packetclip_flow.log: of 100% of the",
            "look  logs     packetclip_flow.log: of 100% of the",
        ],
    )
    world.log.write_bytes(b"".join(recorded("demo-syn-hping", "packet")))
    (world.logs / "packetclip_flow.log").write_bytes(b"".join(recorded("demo-syn-hping", "flow")))
    assert of_the_link(world.check()[1]) == []  # a flood of SYNs without an answer is no fault of the link
