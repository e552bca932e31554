"""The NDJSON file: one line per alert, on the disk before the position moves, no id twice, half lines repaired."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from factories import SENSOR, alert, safe, told
from machine import no_room
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import SinkError
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks import ndjson


def ids(path: Path) -> list[str]:
    return [json.loads(line)["event"]["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def run(path: Path, *batches: AlertBatch) -> Counters:
    counters = Counters()
    assert list(ndjson.write(batches, path, SENSOR, counters)) == list(batches)
    return counters


def test_each_alert_is_one_line_and_the_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "alerts.ndjson"
    counters = run(path, safe(alert(id="a"), alert(id="b", title="line\nbreak")), safe(), safe(alert(id="c")))
    assert ids(path) == ["a", "b", "c"]
    assert told(counters) == {"alerts_written": 3}


def test_lines_are_in_the_file_before_the_safe_comes_back_and_no_second_sensor_writes_there(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    written = ndjson.write([safe(alert(id="a")), safe(alert(id="b"))], path, SENSOR, Counters())
    next(written)
    assert ids(path) == ["a"]
    with pytest.raises(SinkError, match="another process writes it"):
        run(path, safe(alert(id="b")))
    next(written)
    assert ids(path) == ["a", "b"]


def test_a_second_run_writes_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    run(path, safe(alert(id="a"), alert(id="b")))
    counters = run(path, safe(alert(id="b"), alert(id="c")), safe(alert(id="c")))
    assert ids(path) == ["a", "b", "c"]
    assert told(counters) == {"alerts_written": 1, "alerts_duplicate": 2}


@pytest.mark.parametrize("left", [1, 40, 900, -2, None])
def test_a_half_written_last_line_is_written_again_unless_it_lacks_only_its_newline(tmp_path: Path, left: int | None) -> None:
    path = tmp_path / "alerts.ndjson"
    run(path, safe(alert(id="a")), safe(alert(id="b")))
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[:left])
    counters = run(path, safe(alert(id="b"), alert(id="c")))
    assert ids(path) == ["a", "b", "c"]
    assert told(counters) == ({"alerts_written": 2} if left else {"alerts_written": 1, "alerts_duplicate": 1})
    path.write_bytes(first[:17])  # a first line that was cut leaves an empty file
    run(path, safe(alert(id="d")))
    assert ids(path) == ["d"]


def test_ids_of_a_long_file_are_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.ndjson"
    run(path, *(safe(alert(id=f"a{n}")) for n in range(10)))
    monkeypatch.setattr(ndjson, "TAIL_BYTES", path.stat().st_size // 2)
    counters = run(path, safe(alert(id="a9"), alert(id="a8")))
    assert told(counters) == {"alerts_duplicate": 2}


def test_a_file_that_is_not_ours_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Title\nno newline at the end")
    with pytest.raises(SinkError, match="not ours to append to; name another file"):
        run(path, safe(alert()))
    assert path.read_text() == "# Title\nno newline at the end"


def test_a_folder_and_a_device_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="name a file that this user may write"):
        run(tmp_path, safe())
    with pytest.raises(SinkError, match="is no regular file; name a file that this user may write, or - for standard output"):
        run(Path("/dev/null"), safe())


def test_a_full_disk_stops_with_a_remedy_and_the_next_start_repairs_it(tmp_path: Path) -> None:
    """A limit on the file's size, in the middle of the second document, stands for the full disk. This is how a replay ends."""
    path = tmp_path / "alerts.ndjson"
    written = ndjson.write([safe(alert(id="a")), safe(alert(id="b"))], path, SENSOR, Counters())
    next(written)
    with (
        no_room(path.stat().st_size + 100),
        pytest.raises(SinkError, match="File too large; free the disk or correct the rights"),
    ):
        next(written)
    assert ids(path) == ["a"]
    counters = run(path, safe(alert(id="a"), alert(id="b")))
    assert ids(path) == ["a", "b"]
    assert told(counters) == {"alerts_written": 1, "alerts_duplicate": 1}


def test_a_sensor_waits_while_the_disk_is_full_and_says_so(tmp_path: Path) -> None:
    path, counters = tmp_path / "alerts.ndjson", Counters()
    said: list[str | None] = []
    waits: list[float] = []
    with no_room(100) as make_room, capture_logs() as logs:

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                make_room()

        assert len(list(ndjson.write([safe(alert(id="a"))], path, SENSOR, counters, sleep=sleep, waiting=said.append))) == 1
    assert ids(path) == ["a"]
    assert waits == [5.0, 5.0, 5.0]
    assert [entry["event"] for entry in logs] == ["ndjson_waiting", "ndjson_back"]
    assert said[-1] is None
    assert [words for words in said[:-1] if words and "File too large" in words] == said[:-1]
    assert told(counters) == {"alerts_written": 1}


def test_a_new_files_name_is_on_the_disk_before_the_position_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def watched(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        sync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    written = ndjson.write([safe(alert(id="a")), safe(alert(id="b"))], tmp_path / "alerts.ndjson", SENSOR, Counters())
    next(written)
    assert synced == ["alerts.ndjson", tmp_path.name]
    next(written)
    assert synced[2:] == ["alerts.ndjson"]


def test_writing_goes_on_in_a_new_file_after_logrotate(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    written = ndjson.write([safe(alert(id="a")), safe(alert(id="b"))], path, SENSOR, Counters())
    next(written)
    path.rename(tmp_path / "alerts.ndjson.1")
    next(written)
    assert ids(tmp_path / "alerts.ndjson.1") == ["a"]
    assert ids(path) == ["b"]


def test_no_path_means_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    list(ndjson.write([safe(alert(id="a"))], None, SENSOR, Counters()))
    assert json.loads(capfdbinary.readouterr().out)["event"]["id"] == "a"
