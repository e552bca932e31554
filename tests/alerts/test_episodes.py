"""Verdicts to episodes: one story for one attack, equal on every replay."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from factories import MISSIONS

from packetclip_sensor.alerts.episodes import MAX_DOCUMENTS, Event, Policy, episodes, identifier
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Least
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.model.judge import VerdictBatch
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
    stream: int = 60,
    connections: int = 3,
    proto: str = "tcp",
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
            proto,
            True,
            1,
            40,
            b"",
        )
        for i in range(packets)
    )
    return Verdict(
        second, view, sources, destinations, mission, probability, {mission: probability}, window, EMPTY, EMPTY,
        stream_packets=stream, connections=connections,
    )  # fmt: skip


def told(
    steps: list[list[Verdict]],
    *,
    restored: tuple[Episode, ...] = (),
    final: bool = True,
    flows: tuple[Flow, ...] = (),
    policy: Policy | None = None,
    counters: Counters | None = None,
) -> tuple[list[Event], tuple[Episode, ...]]:
    judged = [VerdictBatch(vs, Batch([], list(flows)), max((v.second for v in vs), default=0), ()) for vs in steps]
    if final:
        judged.append(VerdictBatch([], Batch([], [], final=True), judged[-1].judged, ()))
    events, still = [], restored
    for step in episodes(
        judged,
        for_missions(policy or Policy(), MISSIONS),
        counters or Counters(),
        sensor="s",
        model_version="1",
        restored=restored,
    ):
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


def test_an_episode_opens_once_there_are_packets_enough() -> None:
    few = [[verdict(100 + i, packets=5, stream=n)] for i, n in enumerate((5, 30, 59))]
    assert states(told(few)[0]) == []
    events, _ = told([*few, [verdict(103, packets=5, stream=60)]])
    assert states(events) == [("open", 103), ("close", 163)]
    assert (events[0].episode.verdicts, events[0].episode.first) == (4, 100)


def test_a_scan_or_a_guess_needs_fewer_packets_than_a_flood() -> None:
    for mission in ("Reconnaissance", "Brute Force"):
        assert states(told([[verdict(100, mission=mission, stream=19)]])[0]) == []
        assert states(told([[verdict(100, mission=mission, stream=20)]])[0])[0] == ("open", 100)
    assert states(told([[verdict(100, stream=0)], [verdict(101, stream=59)]])[0]) == []


def test_a_guess_is_one_only_when_it_is_repeated() -> None:
    few = [[verdict(100 + i, mission="Brute Force", connections=n)] for i, n in enumerate((1, 2))]
    assert states(told(few)[0]) == []
    assert states(told([*few, [verdict(102, mission="Brute Force", connections=3)]])[0]) == [("open", 102), ("close", 162)]
    assert states(told(few, policy=Policy(least={"Brute Force": Least(connections=2)}))[0])[0] == ("open", 101)
    # One socket may send all guesses where there are no connections, as with SNMP's communities.
    assert states(told([[verdict(100, mission="Brute Force", connections=1, proto="udp")]])[0])[0] == ("open", 100)
    for mission in ("DoS", "Reconnaissance"):
        assert states(told([[verdict(100, mission=mission, connections=1)]])[0])[0] == ("open", 100)


def test_the_packets_of_the_window_count_where_its_connections_are_not_remembered() -> None:
    policy = Policy(open_packets=12, least={"dos": Least(packets=12)})
    assert states(told([[verdict(100, packets=11, stream=0)]], policy=policy)[0]) == []
    assert states(told([[verdict(100, packets=12, stream=0)]], policy=policy)[0])[0] == ("open", 100)


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
    assert [(e.episode.scope, e.episode.sources) for e in events] == [("pair", ["a"])] * 2


def test_two_attackers_on_one_victim_are_two_episodes_that_name_no_client() -> None:
    def second(s: int) -> list[Verdict]:
        return [
            verdict(s, ("a",), ("v",)),
            verdict(s, ("b",), ("v",)),
            verdict(s, ("a", "b", "client"), ("v",), view="destination", packets=30),
        ]

    events, _ = told([second(s) for s in range(100, 170)])
    assert states(events) == [("open", 100)] * 2 + [("update", 160)] * 2 + [("close", 229)] * 2
    assert {(e.episode.scope, *e.episode.sources, *e.episode.destinations) for e in events} == {
        ("pair", "a", "v"),
        ("pair", "b", "v"),
    }


def test_an_attacker_who_has_stopped_is_not_kept_alive_by_another() -> None:
    steps = [[verdict(s, ("a",), ("v",))] for s in range(100, 110)]
    steps += [[verdict(s, ("b",), ("v",)), verdict(s, ("b", "c"), ("v",), view="destination")] for s in range(110, 250)]
    events, _ = told(steps)
    closed = {e.episode.sources[0]: e.second for e in events if e.state == "close"}
    assert closed == {"a": 169, "b": 309}


def test_the_view_of_a_victim_does_not_accuse_clients_where_one_attacker_has_most_packets() -> None:
    steps = [[verdict(100, ("a",), ("v",))], [verdict(101, ("a", "a", "a", "client"), ("v",), view="destination")]]
    events, _ = told(steps)
    assert (events[-1].episode.scope, events[-1].episode.sources) == ("pair", ["a"])
    assert (events[-1].episode.verdicts, events[-1].episode.packets) == (2, 12 + 9)


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


def test_a_row_written_before_an_episode_closes_is_its_own_also_where_a_batch_covers_minutes() -> None:
    mine = Flow(
        ts=100.0, uid="C1", orig_h="a", orig_p=1, resp_h="b", resp_p=80, proto="tcp", final=True, duration=1.0, orig_pkts=5
    )
    events, _ = told([[verdict(100), verdict(300, ("x",), ("y",))]], flows=(mine,))
    closed = [e.episode for e in events if e.state == "close"]
    assert [(e.sources, e.flows, e.flow_packets) for e in closed] == [(["a"], 1, 5), (["x"], 0, 0)]


def test_identifiers_are_the_same_on_every_machine() -> None:
    assert identifier("s", "1", "DoS", 100) == "d6e306884445b3cc2488"


def pairs(second: int, number: int, sources: int | None = None) -> list[Verdict]:
    """Verdicts of so many pairs in one second: all hosts distinct, or of `sources` hosts with as many victims each."""
    return [verdict(second, (f"s{i % sources if sources else i}",), (f"d{i}",)) for i in range(number)]


def busiest(events: list[Event]) -> int:
    """The most documents in any 60 s."""
    seconds = Counter(e.second for e in events)
    return max(sum(n for s, n in seconds.items() if first <= s < first + 60) for first in seconds)


def test_5000_pairs_alarmed_in_one_minute_stay_below_1000_documents_a_minute() -> None:
    counters = Counters()
    minute = [[verdict(100 + i, (f"s{n}",), (f"d{n}",)) for n in range(i, 5000, 60)] for i in range(60)]
    events, _ = told(minute, counters=counters)
    assert busiest(events) <= MAX_DOCUMENTS
    opened = [e for e in events if e.state == "open"]
    assert len(opened) == counters.episodes == 498
    (rest,) = {e.episode.id for e in opened if e.episode.scope == "many"}
    closing = next(e.episode for e in events if e.state == "close" and e.episode.id == rest)
    assert closing.folded == pytest.approx(5000 - 497, rel=0.07)
    assert closing.source_count == pytest.approx(5000 - 497, rel=0.07)
    assert len(closing.sources) == 100
    assert counters.folded_episodes == pytest.approx(5000 - 498, rel=0.07)
    assert sum(e.episode.verdicts for e in events if e.state == "close") == 5000


def test_many_victims_of_few_hosts_are_folded_by_host() -> None:
    counters = Counters()
    events, _ = told([pairs(100, 2000, 20), pairs(101, 2000, 20)], counters=counters)
    closing = [e.episode for e in events if e.state == "close"]
    folded = [e for e in closing if e.folded]
    assert len(closing) == 20 * 10
    assert {e.scope for e in folded} == {"source"}
    assert [(e.folded, e.destination_count, e.source_count) for e in folded] == [(91, 91, 1)] * 20
    assert counters.folded_episodes == 20 * 90


def test_a_victim_of_many_hosts_is_folded_by_victim() -> None:
    events, _ = told([[verdict(100 + i, (f"s{i}",), ("v",)) for i in range(30)]])
    closing = [e.episode for e in events if e.state == "close"]
    assert [(e.scope, e.source_count, e.folded) for e in closing if e.folded] == [("destination", 21, 21)]
    assert len(closing) == 10


@pytest.mark.parametrize("policy", [Policy(), Policy(update_s=10, close_s=5), Policy(update_s=0.5, close_s=200)])
@pytest.mark.parametrize("seed", range(3))
def test_no_minute_ever_has_more_than_1000_documents(policy: Policy, seed: int) -> None:
    rng = random.Random(seed)

    def any_verdict(second: int) -> Verdict:
        hosts = (f"s{rng.randrange(400)}",), (f"d{rng.randrange(400)}",)
        mission = rng.choice(("DoS", "Reconnaissance", "Brute Force"))
        return verdict(second, *hosts, mission=mission, packets=rng.choice((4, 12)))

    steps = [[any_verdict(s) for _ in range(rng.choice((0, 5, 60)))] for s in range(100, 300)]
    events, _ = told(steps, policy=policy)
    assert busiest(events) <= MAX_DOCUMENTS
    by_id: dict[str, list[str]] = {}
    for event in events:
        by_id.setdefault(event.episode.id, []).append(event.state)
    assert all(said[0] == "open" and said[-1] == "close" and set(said[1:-1]) <= {"update"} for said in by_id.values())


def test_a_restart_in_the_middle_of_folding_tells_the_same() -> None:
    steps = [pairs(100 + i, 300, 40) for i in range(5)] + [pairs(105 + i, 700)[100 * i :] for i in range(6)]

    def content(events: list[Event]) -> list[tuple[object, ...]]:
        return [(e.state, e.second, e.episode.id, e.episode.folded, e.episode.source_count, e.episode.verdicts) for e in events]

    whole, _ = told(steps)
    for stop in range(1, len(steps)):
        first, still = told(steps[:stop], final=False)
        saved = msgspec.json.decode(msgspec.json.encode(still), type=tuple[Episode, ...])
        second, _ = told(steps[stop:], restored=saved)
        assert content(first) + content(second) == content(whole)


def test_small_windows_without_number_are_not_remembered_without_end() -> None:
    step = [verdict(100, (f"s{i}",), (f"d{i}",), packets=5, stream=5) for i in range(6000)]
    events, _ = told([step])
    assert [e.state for e in events if e.state == "open"] == ["open"] * 498
    _, still = told([step], final=False)
    assert len(still) == 5000 + 498


def test_an_episode_whose_packets_are_older_than_its_second_stays_open_while_verdicts_come() -> None:
    """As when the clock of the log runs backwards: judging goes on in seconds that never fall."""
    behind = [msgspec.structs.replace(p, ts=p.ts - 3600) for p in verdict(100).packets]
    steps = [[verdict(100)]] + [[replace(verdict(s), packets=tuple(behind))] for s in range(101, 200)]
    assert states(told(steps)[0]) == [("open", 100), ("update", 160), ("close", 259)]


def test_a_state_saved_before_there_was_a_second_of_the_last_verdict_goes_on() -> None:
    _, still = told([[verdict(100)]], final=False)
    old = msgspec.json.decode(msgspec.json.encode(still))
    del old[0]["heard"]
    restored = tuple(msgspec.convert(old, type=list[Episode]))
    assert states(told([[verdict(160)]], restored=restored)[0]) == [("update", 160), ("close", 220)]


def anything(rng: random.Random, second: int) -> list[Verdict]:
    """Verdicts of any view, scope, mission and size on few hosts, so that they meet."""
    hosts = [f"h{i}" for i in range(rng.choice((3, 12)))]
    out = []
    for view in rng.choices(("pair", "source", "destination"), k=rng.randrange(9)):
        one, others = rng.choice(hosts), tuple(rng.sample(hosts, rng.randrange(1, min(len(hosts), 6))))
        sources, destinations = {"pair": ((one,), others[:1]), "source": ((one,), others), "destination": (others, (one,))}[view]
        mission, packets, stream = rng.choice(("DoS", "Brute Force")), rng.choice((4, 12, 30)), rng.choice((0, 20, 60))
        out.append(verdict(second, sources, destinations, view=view, mission=mission, packets=packets, stream=stream))
    return out


@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_an_episode_opens_once_closes_once_and_survives_a_restart(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packetclip_sensor.alerts.episodes.MAX_DOCUMENTS", 20)  # a room of ten, seven of them for any
    rng = random.Random(seed)
    steps = [anything(rng, 100 + i * rng.choice((1, 1, 1, 30))) for i in range(120)]
    steps = [vs for vs in sorted(steps, key=lambda vs: vs[0].second if vs else 0) if vs]
    policy = Policy(update_s=20, close_s=rng.choice((5, 60)))

    def content(events: list[Event]) -> list[tuple[object, ...]]:
        return [(e.state, e.second, msgspec.structs.replace(e.episode, explanation=None, documents=0)) for e in events]

    whole, still = told(steps, policy=policy)
    assert still == ()
    assert busiest(whole) <= 20
    said: dict[str, str] = {}
    for event in whole:
        said[event.episode.id] = said.get(event.episode.id, "") + event.state[0]
    assert all(re.fullmatch("ou*c", states_) for states_ in said.values())
    stop = rng.randrange(1, len(steps))
    first, open_ = told(steps[:stop], final=False, policy=policy)
    saved = msgspec.json.decode(msgspec.json.encode(open_), type=tuple[Episode, ...])
    second, _ = told(steps[stop:], restored=saved, policy=policy)
    assert content(first) + content(second) == content(whole)
