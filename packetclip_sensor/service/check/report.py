"""Says what is wrong with a set-up: a line for each part, and the remedy behind what is wrong.

Every part is looked at, even when one before it fails, and nothing is changed: no file is left, no template put. WRONG stops the
sensor or its documents and makes the exit code 1; `look` stops nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.common.missions import NO_MISSIONS
from packetclip_sensor.common.text import counted, printable, say
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config
from packetclip_sensor.elastic import inspection
from packetclip_sensor.elastic.streams import ALERTS, FLOWS, HEALTH
from packetclip_sensor.errors import SensorError
from packetclip_sensor.model import calibration_file
from packetclip_sensor.model.bundle import Bundle, manifest_of
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.check import account, logs
from packetclip_sensor.service.check.finding import LOOK, OK, WRONG, Found, writable
from packetclip_sensor.sinks import zeek_notices
from packetclip_sensor.sinks.forward.forwarding import unreached
from packetclip_sensor.sinks.forward.targets import targets
from packetclip_sensor.sources.other_alerts import recent
from packetclip_sensor.sources.suricata import setup

HANG = 15
"""Where the words of a finding begin."""
MARKS = {OK: "ok", WRONG: "WRONG", LOOK: "look"}


class Finding(NamedTuple):
    """One line."""

    ok: bool | None
    part: str
    words: str


def report(config: Config, path: Path, file: TextIO, suricata: Path | None = None) -> bool:
    """Print every finding; True where nothing is wrong.

    Args:
        path: the configuration's file. suricata: that of the Suricata to look at as well.
    """
    well = True
    say(f"ok    config   {path}", file=file, hang=HANG)
    for finding in findings(config, path, suricata):
        say(f"{MARKS[finding.ok]:<5} {finding.part:<8} {printable(finding.words, 1000)}", file=file, hang=HANG, flush=True)
        well = well and finding.ok is not WRONG
    return well


def findings(config: Config, path: Path, suricata: Path | None = None) -> Iterator[Finding]:
    """Look at Suricata, where that is asked for, logs, state, model and sink, one after another."""
    for part, look in _checks(config, path, suricata):
        try:
            for ok, words in look():
                yield Finding(ok, part, words)
        except SensorError as err:
            yield Finding(WRONG, part, str(err))


def _checks(config: Config, path: Path, suricata: Path | None) -> Iterator[tuple[str, Callable[[], Found]]]:
    """What this configuration asks for, in the order of the data's way."""
    if suricata is not None:
        yield "suricata", partial(setup.inspect, suricata, config.logs)
    for folder in config.logs or [None]:
        yield "logs", partial(logs.folder, folder, config)
    yield "logs", _account
    yield "logs", partial(logs.archives, config)
    yield "logs", partial(logs.unread, config)
    yield "logs", partial(logs.rejected, config)
    if config.other_alerts:
        yield "others", partial(recent.inspect, config.other_alerts)
    yield "state", partial(_state, config, path)
    yield "model", partial(_model, config)
    if (calibration := config.policy.calibration) is not None:
        yield "model", partial(_calibration, config, calibration)
    if (rules := config.policy.suppress) is not None:
        yield "suppress", partial(_suppress, rules, config.model_path)
    if config.sink.cluster is not None:
        yield "sink", partial(_elasticsearch, config)
    if (ndjson := config.sink.ndjson) is not None:
        yield "sink", partial(writable, ndjson.path.parent, f"alerts go to {ndjson.path}")
    if config.sink.webhook or config.sink.syslog:
        yield "sink", partial(_receivers, config)
    if (verdicts := config.zeek_feedback.path) is not None:
        yield "feedback", partial(_feedback, verdicts)


def _account() -> Found:
    """May this account do more than read the logs?"""
    if trouble := account.trouble():
        yield LOOK, trouble


def _state(config: Config, path: Path) -> Found:
    """Can it be written, is it this sensor's alone, and where would a restart go on?"""
    folder = config.state_dir
    yield from writable(folder, f"remembered in {folder}")
    holder = checkpoint.holder(folder)
    if holder is not None and _runs(holder, path):
        yield OK, f"{folder}: the sensor of this configuration is running (process {holder})"
    elif holder is not None:
        by = f"process {holder or 'unknown'}"
        yield WRONG, f"{folder} is in use by another sensor ({by}); stop that one or name another state_dir"
    state = checkpoint.load(folder / "state.json")
    if state.positions:
        open_ = counted(len(state.episodes), "episode")
        yield OK, f"a restart goes on in {counted(len(state.positions), 'file')}, {open_} open"


def _runs(process: str, path: Path) -> bool:
    """Whether a process is a sensor with this configuration file (Linux; elsewhere nobody can tell)."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    folder = Path("/")
    with contextlib.suppress(OSError):  # another user's process keeps its folder to itself
        folder = Path(f"/proc/{process}/cwd").readlink()
    files = [word.removeprefix("--config=") for word in words]
    return "run" in words and any((folder / word).resolve() == path.resolve() for word in files if word)


def _model(config: Config) -> Found:
    """Is the bundle whole, and does the configuration fit it?"""
    bundle = Bundle.open(config.model_path)
    manifest = bundle.manifest
    policy = for_missions(config.policy, manifest.missions)
    own = policy.thresholds
    thresholds = manifest.thresholds | own
    words = ", ".join(f"{mission} {value:.3f}" for mission, value in thresholds.items())
    wide = {mission: value for mission, value in (manifest.margins | policy.margins).items() if value}
    if wide:
        words += f", and together with others down to {', '.join(f'{m} {v:g}' for m, v in wide.items())} logits below"
    yield OK, f"version {manifest.version} from {bundle.path}; a verdict counts from probability {words}"
    if policy.shadow:
        yield (
            LOOK,
            "policy.shadow: every alert has the lowest severity and Zeek gets no verdicts; take it away to alert in earnest",
        )
    for mission, value in own.items():
        if value > (ceiling := manifest.ceilings.get(mission, 1.0)):
            yield (
                LOOK,
                f"policy.thresholds: {mission} {value} is above {ceiling:.3f}, from where most attacks are missed; lower it",
            )
    remembered = manifest.window.connections
    packets = {f"policy.least.{mission}.packets": least.packets or 0 for mission, least in policy.least.items()}
    for key, most in ({"policy.open_packets": policy.open_packets} | packets).items():
        if most > remembered:
            yield (
                LOOK,
                f"{key} is {most}, a window of the model remembers {remembered} connections: what sends one packet in each opens "
                "no episode; lower it",
            )
    for mission, least in policy.least.items():
        if (least.connections or 0) > remembered:
            yield (
                WRONG,
                f"policy.least.{mission}.connections is {least.connections}, a window of the model remembers {remembered}: no "
                f"{mission} over TCP would ever be reported; lower it",
            )
    with contextlib.suppress(SensorError):  # the state has a line of its own
        before = checkpoint.load(config.state_dir / "state.json").model_version
        if before not in ("", manifest.version):
            yield (
                LOOK,
                f"the state is of model {before}, this one is {manifest.version}: the same traffic gets other document ids",
            )


def _calibration(config: Config, file: Path) -> Found:
    """Is the site's calibration there, and for this model?"""
    fitted = calibration_file.load(file, config.model_path).thresholds
    yield OK, f"calibrated by {file}: {', '.join(f'{mission} {value:.3f}' for mission, value in fitted.items())}"


def _suppress(path: Path, model: Path) -> Found:
    rules = suppression_rules.load(path, manifest_of(model).missions)
    ended = [rule for rule in rules if not rule.live(time.time())]
    yield OK, f"{counted(len(rules) - len(ended), 'rule')} of {path} in force"
    for rule in ended:
        yield LOOK, f"{path}:{rule.line} has expired and suppresses nothing; prolong it or remove it ({rule.comment})"


def _elasticsearch(config: Config) -> Found:
    """Is it there, does it let us in, would it take our documents?"""
    cluster = config.sink.cluster
    assert cluster is not None
    yield from writable(cluster.dead_letter_path.parent, f"refused documents go to {cluster.dead_letter_path}")
    datasets = [ALERTS] + [FLOWS] * config.hunt.enabled + [HEALTH] * bool(config.health.documents_s)
    try:
        missions = manifest_of(config.model_path).missions
    except SensorError:  # the model has a line of its own; without missions their fields are not looked at
        missions = NO_MISSIONS
    yield from inspection.findings(cluster, missions, datasets)


def _receivers(config: Config) -> Found:
    """Do webhook and syslog take a connection, and show a certificate that is trusted? Nothing is sent."""
    for target in targets(config):
        try:
            target.probe()
        except OSError as err:
            yield WRONG, unreached(f"sink.{target.name}", target.where, err)
        else:
            yield OK, f"{target.name} {target.where}: takes connections; whether it takes documents is seen at the first alert"


def _feedback(verdicts: Path) -> Found:
    yield from writable(verdicts.parent, f"verdicts for Zeek go to {verdicts}")
    if words := zeek_notices.shared(verdicts.parent):
        yield LOOK, words
