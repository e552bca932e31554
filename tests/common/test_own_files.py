"""Files with bytes of packets: nobody else reads them, and a symbolic link chooses no other file to be written."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from factories import MISSIONS, SENSOR, alert, safe

from packetclip_sensor.cli.app import main
from packetclip_sensor.common import durable
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import HealthConfig
from packetclip_sensor.errors import SensorError
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.health_documents import HealthFile
from packetclip_sensor.sinks import dead_letters, ndjson, zeek_notices
from packetclip_sensor.sinks.documents import document

DATA = Path(__file__).parents[1] / "data"


def alerts(path: Path) -> None:
    list(ndjson.write([safe(alert())], path, SENSOR, Counters()))


def rejects(path: Path) -> None:
    with Rejects(path) as file:
        file.add("x.log", 0, "not JSON", b"x")


def letters(path: Path) -> None:
    letter = dead_letters.Letter("a", 400, "t", "r", msgspec.Raw(b"{}"))
    dead_letters.DeadLetters(path, 1 << 20, Counters(), lambda _: pytest.fail("waits")).add([letter])


def state(path: Path) -> None:
    checkpoint.save(path, checkpoint.State())


def lock(path: Path) -> None:
    with checkpoint.lock(path.parent):
        pass


def health(path: Path) -> None:
    HealthFile(path, Health(HealthConfig(), Counters()), SENSOR).send()


def feedback(path: Path) -> None:
    list(zeek_notices.write([safe(alert())], path, Counters(), MISSIONS, max_bytes=1 << 20))


def report(path: Path) -> None:
    source = path.with_name("source.ndjson")
    source.write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    main(["report", str(source), "--out", str(path)])


def pairs(path: Path) -> None:
    pytest.importorskip("pyarrow")
    main(["pairs", str(DATA / "demo-os-nping"), "--label", "Benign", "--out", str(path)])


def replayed(path: Path) -> None:
    main(["replay", str(DATA / "demo-os-nping"), "--out", str(path)])


Writer = Callable[[Path], None]
WRITERS: list[Writer] = [alerts, rejects, letters, state, health, feedback, report, pairs, replayed]


@pytest.fixture(autouse=True)
def _careless_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("there", [None, 0o666])
def test_nobody_but_owner_and_group_reads_a_file_with_packets(writer: Writer, there: int | None, tmp_path: Path) -> None:
    """Whatever the umask is, and also where an older version made the file."""
    path = tmp_path / "file"
    if there is not None:
        writer(path)
        path.chmod(there)
        if writer is state:
            writer(path)  # the state before is kept as .old until the next
    writer(path)
    assert path.stat().st_size > 0
    assert {file.name: oct(file.stat().st_mode & 0o777 & ~0o640) for file in tmp_path.glob("file*")} == {"file": "0o0"} | {
        name: "0o0" for name in ("file.old", "file.1") if (tmp_path / name).exists()
    }


@pytest.mark.parametrize("writer", [*WRITERS, lock], ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("suffix", ["", ".new"])
def test_a_symbolic_link_chooses_no_other_file_to_be_written(writer: Writer, suffix: str, tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("mine")
    victim.chmod(0o600)
    folder.mkdir()
    path = folder / ("lock" if writer is lock else "file")
    path.with_name(path.name + suffix).symlink_to(victim)
    with contextlib.suppress(SensorError, OSError):
        writer(path)
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("mine", 0o600)
    if suffix:
        assert path.is_file()
        assert not path.is_symlink()


def test_a_link_or_a_pipe_is_named_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("link", "is a symbolic link, which is not followed: name the file itself"),
        ("pipe", "is no regular file"),
    ):
        assert main(["replay", str(DATA / "demo-os-nping"), "--out", str(tmp_path / name)]) == 2
        assert f"{name}: {words}" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.replace(path, b"old")
    (tmp_path / "file.new").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        durable.replace(path, b"new")
    assert path.read_bytes() == b"old"
    (tmp_path / "file.new").rmdir()
    durable.replace(path, b"new")
    assert (path.read_bytes(), [file.name for file in tmp_path.iterdir()]) == (b"new", ["file"])


def test_a_file_of_another_user_or_with_a_second_name_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "second").hardlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="has a second name"):
        durable.opened(tmp_path / "file", own=True)
    (tmp_path / "second").unlink()
    os.close(durable.opened(tmp_path / "file", own=True))
    if os.geteuid() == 0:
        os.chown(tmp_path / "file", 1234, -1)
        with pytest.raises(OSError, match="belongs to user 1234, not 0"):
            durable.opened(tmp_path / "file", own=True)
