"""The short form of the fault suite: every fault at least once. The whole, hundreds of each, is `make faults`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch_node import Node, NodeUnavailableError, own_node
from machine import unavailable

from . import faults, proxy, zeek
from .undergo import Disturb, undergo

pytestmark = pytest.mark.xdist_group("faults")
PAUSE_S = 0.25


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    try:
        started = Node(tmp_path_factory.mktemp("node"))
    except NodeUnavailableError as err:
        unavailable(str(err))
    yield started
    started.end()


def check(node: Node | None, disturb: Disturb, **more: Any) -> None:
    row = undergo(node, "short form", disturb, 1, pause_s=PAUSE_S, **more)
    assert row.caught_up, row.note
    assert row.expected > 0
    assert (row.found, row.lost, row.doubled) == (row.expected, 0, 0), row


def test_a_following_sensor_killed_at_random_writes_what_an_undisturbed_one_writes() -> None:
    """Into a file."""
    check(None, faults.kills(4))


def test_a_sensor_with_three_sinks_of_which_two_were_away_and_that_was_killed_lacks_nothing_in_any() -> None:
    check(None, faults.in_turn(faults.receivers_away(1, 3.0), faults.kills(3), faults.receivers_away(1, 1.0)), forward=True)


@pytest.mark.elasticsearch
def test_every_way_to_rotate_under_load_loses_and_doubles_nothing(node: Node) -> None:
    def next_way(writer: zeek.Zeek) -> None:
        zeek.ROTATIONS[writer.rotated % len(zeek.ROTATIONS)](writer)

    times = 2 * len(zeek.ROTATIONS)
    check(node, faults.rotating(times), rotate=next_way, rotations=times)


@pytest.mark.elasticsearch
def test_a_sensor_killed_stopped_or_robbed_of_its_checkpoint_while_logs_are_archived_writes_every_alert_once(node: Node) -> None:
    disturb = faults.in_turn(faults.kills(3), faults.stopped(1, 3), faults.corrupted(2), faults.read_only(1, 1.5))
    check(node, disturb, rotate=zeek.archive, rotations=6)


def of_the_server() -> Disturb:
    """It is busy, late, away, cut off and killed in a bulk request, one after the other."""
    acts = (
        proxy.some_items(429),
        proxy.cut_before,
        proxy.cut_after,
        proxy.reset_after,
        proxy.half_answer,
        proxy.delayed(after_s=2.5),
    )
    return faults.in_turn(
        *(faults.acting(1, act, share=1.0) for act in acts),
        faults.storms(2, (429, 503), 0.5, retry_after_s=1),
        faults.refused(1, 1.0),
        faults.killed_in_bulk(1),
    )


@pytest.mark.elasticsearch
def test_a_server_that_is_busy_late_away_cut_off_or_killed_in_a_bulk_request_gets_every_alert_once(node: Node) -> None:
    check(node, of_the_server(), timeout_s=2.0)


@pytest.mark.elasticsearch
def test_an_opensearch_that_undergoes_the_same_gets_every_alert_once(tmp_path: Path) -> None:
    pytest.importorskip("opensearchpy", reason="its client: pip install '.[opensearch]'")
    with own_node(tmp_path, "opensearch") as node:
        check(node, of_the_server(), timeout_s=2.0)


@pytest.mark.elasticsearch
def test_a_full_disk_below_the_state_folder_loses_and_doubles_nothing(node: Node) -> None:
    try:
        check(node, faults.full_disk(1, 1.5), small_disk=True, supervised=True)
    except PermissionError as err:
        pytest.skip(f"needs root: {err}")
