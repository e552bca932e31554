"""Verdicts to episodes: one story for one attack, equal on every replay."""

from __future__ import annotations

import numpy as np

from packetclip_sensor.episodes import Event, Policy, episodes, identifier
from packetclip_sensor.judge import Judged
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Batch, Episode, Flow, Packet, Verdict

EMPTY = np.zeros((30, 1), np.float32)


def verdict(
    second: int,
    sources: tuple[str, ...] = ("a",),
    destinations: tuple[str, ...] = ("b",),
    *,
    view: str = "pair",
    mission: str = "DoS",
    packets: int = 12,
    probability: float = 0.9,
) -> Verdict:
    window = tuple(
        Packet(
            second + i / 100,
            f"C{i}",
            sources[i % len(sources)],
            1,
            destinations[i % len(destinations)],
            80,
            "tcp",
            True,
            1,
            40,
            b"",
        )
        for i in range(packets)
    )
    return Verdict(second, view, sources, destinations, mission, probability, {mission: probability}, window, EMPTY, EMPTY)


def told(
    steps: list[list[Verdict]], *, restored: tuple[Episode, ...] = (), final: bool = True, flows: tuple[Flow, ...] = ()
) -> tuple[list[Event], tuple[Episode, ...]]:
    judged = [Judged(vs, Batch([], list(flows)), max((v.second for v in vs), default=0), ()) for vs in steps]
    if final:
        judged.append(Judged([], Batch([], [], final=True), judged[-1].judged, ()))
    events, still = [], restored
    for step in episodes(judged, Policy(), Counters(), sensor="s", model_version="1", restored=restored):
        events += step.events
        still = step.open
    return events, still


def states(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.state, e.second) for e in events]


def test_an_attack_opens_once_is_told_each_minute_and_closes() -> None:
    events, still = told([[verdict(s)] for s in range(100, 230)])
    assert states(events) == [("open", 100), ("update", 160), ("update", 220), ("close", 289)]
    assert len({e.episode.id for e in events}) == 1
    assert events[-1].episode.verdicts == 130
    assert still == ()


def test_a_small_first_window_needs_a_second_verdict() -> None:
    assert states(told([[verdict(100, packets=5)]])[0]) == []
    assert states(told([[verdict(100, packets=5)], [verdict(101, packets=5)]])[0]) == [("open", 101), ("close", 161)]


def test_views_on_the_same_hosts_are_one_episode() -> None:
    step = [verdict(100), verdict(100, view="source"), verdict(100, view="destination")]
    events, _ = told([step])
    assert states(events) == [("open", 100), ("close", 160)]


def test_a_sweep_of_many_hosts_is_one_episode_of_its_source() -> None:
    steps = [
        [verdict(100, destinations=("b",))],
        [verdict(101, destinations=("b", "c", "d"), view="source")],
        [verdict(102, destinations=("e",))],
    ]
    events, _ = told(steps)
    assert states(events) == [("open", 100), ("close", 162)]
    assert events[-1].episode.scope == "source"
    assert events[-1].episode.destinations == ["b", "c", "d", "e"]


def test_a_spoofed_flood_is_one_episode_of_its_destination() -> None:
    steps = [[verdict(100 + i, sources=(f"x{i}", f"y{i}", f"z{i}"), view="destination")] for i in range(5)]
    events, _ = told(steps)
    assert states(events) == [("open", 100), ("close", 164)]
    assert events[-1].episode.scope == "destination"
    assert events[-1].episode.source_count == 15


def test_a_flood_from_many_reflectors_is_one_episode_of_its_destination() -> None:
    hosts = [f"r{i}" for i in range(40)]
    step = [verdict(100, (host,), ("b",)) for host in hosts]
    step += [verdict(100, tuple(hosts[:30]), ("b",), view="destination", packets=30)]
    events, _ = told([step])
    assert states(events) == [("open", 100), ("close", 160)]
    assert events[0].episode.scope == "destination"


def test_one_attacker_beside_few_clients_is_named_alone() -> None:
    step = [verdict(100, ("a",), ("b",)), verdict(100, ("a", "c"), ("b",), view="destination")]
    events, _ = told([step])
    assert events[0].verdict is not None
    assert events[0].verdict.view == "pair"
    assert [e.state for e in events] == ["open", "close"]


def test_missions_and_pairs_are_told_apart() -> None:
    events, _ = told([[verdict(100), verdict(100, mission="Brute Force"), verdict(100, ("p",), ("q",))]])
    assert [e.state for e in events] == ["open"] * 3 + ["close"] * 3
    assert len({e.episode.id for e in events}) == 3


def test_a_quiet_minute_ends_an_episode_and_the_next_verdict_begins_another() -> None:
    events, _ = told([[verdict(100)], [verdict(200)]])
    assert states(events) == [("open", 100), ("close", 160), ("open", 200), ("close", 260)]
    assert events[0].episode.id != events[2].episode.id


def test_a_restart_goes_on_with_the_open_episode() -> None:
    steps = [[verdict(s)] for s in range(100, 170)]
    whole, _ = told(steps)
    first, still = told(steps[:35], final=False)
    second, _ = told(steps[35:], restored=still)
    assert states(first + second) == states(whole)
    assert {e.episode.id for e in first + second} == {whole[0].episode.id}


def test_flow_rows_of_the_hosts_are_summed_and_others_left_alone() -> None:
    mine = Flow(
        ts=100.0, uid="C1", orig_h="a", orig_p=1, resp_h="b", resp_p=80, proto="tcp", final=True, orig_pkts=5, resp_pkts=2
    )
    other = Flow(ts=100.0, uid="C2", orig_h="x", orig_p=1, resp_h="b", resp_p=80, proto="tcp", final=True, orig_pkts=9)
    events, _ = told([[verdict(100)]], flows=(mine, other))
    assert (events[-1].episode.flows, events[-1].episode.flow_packets) == (1, 7)
    assert events[-1].episode.flow == mine


def test_identifiers_are_the_same_on_every_machine() -> None:
    assert identifier("s", "1", "DoS", 100) == "d6e306884445b3cc2488"
