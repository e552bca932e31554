"""Verdicts to episodes: one episode for one attack, equal on every replay."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from factories import MISSIONS, alert, episode, flow, packet, verdict

from packetclip_sensor.alerts import open_episodes
from packetclip_sensor.alerts.episodes import MAX_DOCUMENTS, EpisodeTracker, identifier
from packetclip_sensor.alerts.sentences import reason
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Least
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.records import TALLIES, Batch, Episode, Event, Flow, Trail, Verdict, VerdictBatch


def tracked(
    steps: list[list[Verdict]],
    *,
    restored: tuple[Episode, ...] = (),
    final: bool = True,
    flows: tuple[Flow, ...] = (),
    policy: Policy | None = None,
    counters: Counters | None = None,
) -> tuple[list[Event], tuple[Episode, ...]]:
    """All events of batches of verdicts, and what is open at their end."""
    batches = [VerdictBatch(vs, Batch([], list(flows)), max((v.second for v in vs), default=0), ()) for vs in steps]
    if final:
        batches.append(VerdictBatch([], Batch([], [], final=True), batches[-1].judged, ()))
    events, still = [], restored
    asked = for_missions(policy or Policy(), MISSIONS)
    track = EpisodeTracker(asked, counters or Counters(), sensor="s", model_version="1", restored=restored)
    for step in map(track, batches):
        events += step.events
        still = step.open
    return events, still


def states(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.state, e.second) for e in events]


def opened(*verdicts: Verdict, policy: Policy | None = None) -> list[int]:
    """The seconds at which episodes open."""
    return [second for state, second in states(tracked([[v] for v in verdicts], policy=policy)[0]) if state == "open"]


def saved(still: tuple[Episode, ...]) -> tuple[Episode, ...]:
    """What a checkpoint gives back of open episodes."""
    return msgspec.json.decode(msgspec.json.encode(still), type=tuple[Episode, ...])


def test_what_evidence_decides_opens_once_while_evidence_remembers() -> None:
    """A stream about its threshold for hours is one alert, also over a restart; a single window's episode closes as ever."""
    decided = [replace(verdict(second), trail=Trail(0.9, 0.1, 9, 60, 0.9)) for second in (1000, 1500, 4500, 9000)]
    assert opened(*decided) == [1000, 9000]
    assert opened(*(replace(v, trail=None) for v in decided)) == [1000, 1500, 4500, 9000]
    events, still = tracked([[v] for v in decided[:2]], final=False)
    more, _ = tracked([[v] for v in decided[2:]], restored=saved(still))
    assert [e.state for e in (*events, *more)] == ["open", "update", "update", "close", "open", "close"]


def test_an_attack_opens_once_is_reported_each_minute_and_closes() -> None:
    events, still = tracked([[verdict(s)] for s in range(100, 230)])
    assert states(events) == [("open", 100), ("update", 160), ("update", 220), ("close", 289)]
    assert len({e.episode.id for e in events}) == 1
    assert events[-1].episode.verdicts == 130
    assert still == ()


def test_an_episode_opens_once_there_are_packets_enough() -> None:
    few = [verdict(100 + i, packets=5, stream_packets=n) for i, n in enumerate((5, 30, 59))]
    assert opened(*few) == []
    events, _ = tracked([[v] for v in (*few, verdict(103, packets=5, stream_packets=60))])
    assert states(events) == [("open", 103), ("close", 163)]
    assert (events[0].episode.verdicts, events[0].episode.first) == (4, 100)


def test_a_scan_or_a_guess_needs_fewer_packets_than_a_flood() -> None:
    for mission in ("Reconnaissance", "Brute Force"):
        assert opened(verdict(100, mission=mission, stream_packets=19)) == []
        assert opened(verdict(100, mission=mission, stream_packets=20)) == [100]
    assert opened(verdict(100, stream_packets=0), verdict(101, stream_packets=59)) == []


def test_a_guess_is_one_only_when_it_is_repeated() -> None:
    few = [verdict(100 + i, mission="Brute Force", connections=n) for i, n in enumerate((1, 2))]
    assert opened(*few) == []
    assert opened(*few, verdict(102, mission="Brute Force", connections=3)) == [102]
    assert opened(*few, policy=Policy(least={"Brute Force": Least(connections=2)})) == [101]
    # One socket may send all guesses where there are no connections, as with SNMP's communities.
    assert opened(verdict(100, mission="Brute Force", connections=1, proto="udp")) == [100]
    for mission in ("DoS", "Reconnaissance"):
        assert opened(verdict(100, mission=mission, connections=1)) == [100]


def test_a_flood_of_datagrams_is_one_only_at_a_rate() -> None:
    least = Policy(least={"dos": Least(datagrams_per_s=100)})
    slow = [verdict(100 + i, proto="udp", per_second=99) for i in range(3)]  # a voice call: fifty packets a second each way
    assert not opened(*slow, policy=least)
    assert opened(*slow, verdict(103, proto="udp", per_second=100), policy=least) == [103]
    sure = Policy(least={"dos": Least(datagrams_per_s=100, slow_probability=0.99)})
    assert [opened(replace(slow[0], probability=p), policy=sure) for p in (0.991, 0.989)] == [[100], []]
    group = verdict(100, proto="udp", destinations=("239.1.2.3",), per_second=5000, probability=0.989)  # broadcast video
    assert (opened(group, policy=sure), opened(replace(group, probability=0.991), policy=sure)) == ([], [100])
    assert opened(verdict(100, proto="tcp"), policy=least) == [100]  # half-open connections fill a table slowly, too


def test_the_packets_of_the_window_count_where_its_connections_are_not_remembered() -> None:
    policy = Policy(open_packets=12, least={"dos": Least(packets=12)})
    assert opened(verdict(100, packets=11, stream_packets=0), policy=policy) == []
    assert opened(verdict(100, packets=12, stream_packets=0), policy=policy) == [100]


def test_views_on_the_same_hosts_are_one_episode() -> None:
    events, _ = tracked([[verdict(100), verdict(100, view="source"), verdict(100, view="destination")]])
    assert states(events) == [("open", 100), ("close", 160)]


def test_a_sweep_of_many_hosts_is_one_episode_of_its_source() -> None:
    hosts = [("b",), ("b", "c", "d", "f"), ("e",)]
    views = ["pair", "source", "pair"]
    events, _ = tracked([[verdict(100 + i, ("a",), hosts[i], view=views[i])] for i in range(3)])
    assert states(events) == [("open", 100), ("close", 162)]
    assert (events[-1].episode.scope, events[-1].episode.destinations) == ("source", ["b", "c", "d", "f", "e"])


def test_a_spoofed_flood_is_one_episode_of_its_destination() -> None:
    forged = [tuple(f"{name}{i}" for name in "wxyz") for i in range(5)]
    events, _ = tracked([[verdict(100 + i, hosts, view="destination")] for i, hosts in enumerate(forged)])
    assert states(events) == [("open", 100), ("close", 164)]
    assert (events[-1].episode.scope, events[-1].episode.source_count) == ("destination", 20)


def test_a_flood_from_many_reflectors_is_one_episode_of_its_destination() -> None:
    hosts = tuple(f"r{i}" for i in range(40))
    events, _ = tracked([[*(verdict(100, (host,)) for host in hosts), verdict(100, hosts[:30], view="destination", packets=30)]])
    assert states(events) == [("open", 100), ("close", 160)]
    assert events[0].episode.scope == "destination"


def test_one_attacker_beside_few_clients_is_named_alone() -> None:
    events, _ = tracked([[verdict(100), verdict(100, ("a", "c"), view="destination")]])
    assert [e.verdict and e.verdict.view for e in events] == ["pair", None]
    assert [(e.state, e.episode.scope, e.episode.sources) for e in events] == [("open", "pair", ["a"]), ("close", "pair", ["a"])]


def test_two_attackers_on_one_victim_are_two_episodes_that_name_no_client() -> None:
    def second(s: int) -> list[Verdict]:
        both = verdict(s, ("a", "b", "client"), ("v",), view="destination", packets=30)
        return [verdict(s, ("a",), ("v",)), verdict(s, ("b",), ("v",)), both]

    events, _ = tracked([second(s) for s in range(100, 170)])
    assert states(events) == [("open", 100)] * 2 + [("update", 160)] * 2 + [("close", 229)] * 2
    named = {(e.episode.scope, *e.episode.sources, *e.episode.destinations) for e in events}
    assert named == {("pair", "a", "v"), ("pair", "b", "v")}


def test_an_attacker_who_has_stopped_is_not_kept_alive_by_another() -> None:
    steps = [[verdict(s, ("a",), ("v",))] for s in range(100, 110)]
    steps += [[verdict(s, ("b",), ("v",)), verdict(s, ("b", "c"), ("v",), view="destination")] for s in range(110, 250)]
    events, _ = tracked(steps)
    assert {e.episode.sources[0]: e.second for e in events if e.state == "close"} == {"a": 169, "b": 309}


def test_the_view_of_a_victim_does_not_accuse_clients_where_one_attacker_has_most_packets() -> None:
    steps = [[verdict(100, ("a",), ("v",))], [verdict(101, ("a", "a", "a", "client"), ("v",), view="destination")]]
    last = tracked(steps)[0][-1].episode
    assert (last.scope, last.sources, last.verdicts, last.packets) == ("pair", ["a"], 2, 12 + 9)


def test_a_view_that_shows_few_hosts_opens_nothing_whatever_stands_behind_it() -> None:
    """Three clients that load a page each ask their resolver 120 times together."""
    assert opened(verdict(100, ("a", "c", "d"), ("v",), view="destination", packets=30, stream_packets=120)) == []
    assert opened(verdict(100, ("a",), ("v", "w", "x"), view="source", packets=30, stream_packets=120)) == []
    assert opened(verdict(100, tuple("acde"), ("v",), view="destination", packets=30, stream_packets=120)) == [100]


def test_a_pair_opens_on_its_own_volume_and_is_shown_by_its_own_packets() -> None:
    wide = verdict(100, ("a", "c"), ("v",), view="destination", packets=30, stream_packets=120)
    assert opened(verdict(100, ("a",), ("v",), stream_packets=46), wide) == []
    events, _ = tracked([[verdict(100, ("a",), ("v",)), replace(wide, probability=0.99)], [replace(wide, second=170)]])
    assert states(events) == [("open", 100), ("close", 160)]
    assert {p.orig_h for e in events if e.verdict for p in e.verdict.packets} == {"a"}
    assert (events[-1].episode.peak, events[-1].episode.sources) == (0.9, ["a"])


def test_a_pair_with_little_behind_it_does_not_silence_a_flood_from_many() -> None:
    small = verdict(100, ("r0",), ("v",), packets=4, stream_packets=4)
    flood = verdict(100, tuple(f"r{i}" for i in range(30)), ("v",), view="destination", packets=30)
    events, _ = tracked([[small, flood]])
    assert [(e.state, e.episode.scope, e.episode.source_count) for e in events] == [
        ("open", "destination", 30), ("close", "destination", 30)
    ]  # fmt: skip


def test_missions_and_pairs_are_episodes_of_their_own() -> None:
    events, _ = tracked([[verdict(100), verdict(100, mission="Brute Force"), verdict(100, ("p",), ("q",))]])
    assert [e.state for e in events] == ["open"] * 3 + ["close"] * 3
    assert len({e.episode.id for e in events}) == 3


def test_a_quiet_minute_ends_an_episode_and_the_next_verdict_begins_another() -> None:
    events, _ = tracked([[verdict(100)], [verdict(200)]])
    assert states(events) == [("open", 100), ("close", 160), ("open", 200), ("close", 260)]
    assert events[0].episode.id != events[2].episode.id


def test_connections_that_zeek_left_out_are_counted_while_the_episode_of_their_destination_lasts() -> None:
    records = [packet(ts=second + 0.5, orig_h="c", resp_h=host, skipped=900) for second in range(99, 103) for host in "bx"]
    given = VerdictBatch([verdict(100)], Batch([], []), 102, (), np.array(records, np.object_), np.repeat(range(99, 103), 2))
    track = EpisodeTracker(for_missions(Policy(), MISSIONS), Counters(), sensor="s", model_version="1")
    (begun,) = track(given).events
    (ended,) = track(VerdictBatch([], Batch([], [], final=True), 102, ())).events
    assert (begun.episode.connections_skipped, ended.episode.connections_skipped) == (900, 2700)
    assert reason(alert(episode=ended.episode)).endswith("Zeek left 2,700 more connections to b out of the log.")


def test_flow_rows_of_the_hosts_are_summed_and_others_left_alone() -> None:
    mine = flow(ts=100.0, orig_h="a", resp_h="b", orig_pkts=5, resp_pkts=2)
    other = flow(ts=100.0, orig_h="x", resp_h="b", orig_pkts=9)
    last = tracked([[verdict(100)]], flows=(mine, other))[0][-1].episode
    assert (last.flows, last.flow_packets, last.flow) == (1, 7, mine)


def test_a_flow_row_belongs_to_each_episode_of_its_hosts_whatever_that_is_about() -> None:
    row = flow(ts=100.0, orig_h="a", resp_h="b", orig_pkts=5)
    swept, flooded = verdict(100, ("a",), tuple("bcde"), view="source"), verdict(100, tuple("acde"), ("b",), view="destination")
    events, _ = tracked([[replace(swept, mission="Reconnaissance"), flooded]], flows=(row,))
    assert [(e.episode.scope, e.episode.flows) for e in events if e.state == "close"] == [("source", 1), ("destination", 1)]


def test_a_row_written_before_an_episode_closes_is_its_own_also_where_a_batch_covers_minutes() -> None:
    mine = flow(ts=100.0, orig_h="a", resp_h="b", duration=1.0, orig_pkts=5)
    events, _ = tracked([[verdict(100), verdict(300, ("x",), ("y",))]], flows=(mine,))
    closed = [e.episode for e in events if e.state == "close"]
    assert [(e.sources, e.flows, e.flow_packets) for e in closed] == [(["a"], 1, 5), (["x"], 0, 0)]


@pytest.mark.parametrize("size", [1, 2, 4, 30, 120])
def test_an_episode_shows_the_same_flow_rows_however_they_and_its_verdicts_are_read(size: int) -> None:
    sizes = {99: 20, 100: 3, 104: 7, 118: 30}  # before the first verdict; between two, the largest; after the last one
    rows = {second: flow(ts=second + 0.2, orig_h="a", resp_h="b", orig_pkts=packets) for second, packets in sizes.items()}
    found = {second: verdict(second) for second in (100, 108)}
    track = EpisodeTracker(for_missions(Policy(), MISSIONS), Counters(), sensor="s", model_version="1")
    closed = []
    for start in range(98, 218, size):
        seconds = range(start, start + size)
        some = Batch([], [rows[second] for second in seconds if second in rows])
        step = VerdictBatch([found[second] for second in seconds if second in found], some, seconds[-1], ())
        closed += [event.episode for event in track(step).events if event.state == "close"]
    assert [(e.flows, e.flow_packets, e.flow) for e in closed] == [(2, 10, rows[104])]


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
    events, _ = tracked(minute, counters=counters)
    assert busiest(events) <= MAX_DOCUMENTS
    began = [e for e in events if e.state == "open"]
    assert len(began) == counters.episodes == 498
    (rest,) = {e.episode.id for e in began if e.episode.scope == "many"}
    closing = next(e.episode for e in events if e.state == "close" and e.episode.id == rest)
    assert [closing.folded, closing.source_count] == pytest.approx([5000 - 497] * 2, rel=0.07)
    assert len(closing.sources) == 100
    assert counters.folded_episodes == pytest.approx(5000 - 498, rel=0.07)
    assert sum(e.episode.verdicts for e in events if e.state == "close") == 5000


def test_many_victims_of_few_hosts_are_folded_by_host() -> None:
    counters = Counters()
    events, _ = tracked([pairs(100, 2000, 20), pairs(101, 2000, 20)], counters=counters)
    closing = [e.episode for e in events if e.state == "close"]
    assert len(closing) == 20 * 10
    folded = [(e.scope, e.folded, e.destination_count, e.source_count) for e in closing if e.folded]
    assert folded == [("source", 91, 91, 1)] * 20
    assert counters.folded_episodes == 20 * 90


def test_a_victim_of_many_hosts_is_folded_by_victim() -> None:
    events, _ = tracked([[verdict(100 + i, (f"s{i}",), ("v",)) for i in range(30)]])
    closing = [e.episode for e in events if e.state == "close"]
    assert [(e.scope, e.source_count, e.folded) for e in closing if e.folded] == [("destination", 21, 21)]
    assert len(closing) == 10


def test_small_windows_without_number_are_not_remembered_without_end() -> None:
    step = [verdict(100, (f"s{i}",), (f"d{i}",), packets=5, stream_packets=5) for i in range(6000)]
    assert [e.state for e in tracked([step])[0] if e.state == "open"] == ["open"] * 498
    assert len(tracked([step], final=False)[1]) == 5000 + 498


def test_an_episode_whose_packets_are_older_than_its_second_stays_open_while_verdicts_come() -> None:
    """As when the clock of the log runs backwards: judging goes on in seconds that never fall."""
    behind = tuple(msgspec.structs.replace(p, ts=p.ts - 3600) for p in verdict(100).packets)
    steps = [[verdict(100)]] + [[replace(verdict(s), packets=behind)] for s in range(101, 200)]
    assert states(tracked(steps)[0]) == [("open", 100), ("update", 160), ("close", 259)]


def content(events: list[Event]) -> list[tuple[object, ...]]:
    """All that events say but explanations."""
    return [(e.state, e.second, msgspec.structs.replace(e.episode, documents=0)) for e in events]


def test_a_restart_goes_on_with_the_open_episode_also_in_the_middle_of_folding() -> None:
    steps = [[verdict(s)] for s in range(100, 170, 10)]
    steps += [pairs(170 + i, 300, 40) for i in range(5)] + [pairs(175 + i, 700)[100 * i :] for i in range(6)]
    whole, _ = tracked(steps)
    for stop in range(1, len(steps)):
        first, still = tracked(steps[:stop], final=False)
        assert content(first) + content(tracked(steps[stop:], restored=saved(still))[0]) == content(whole)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"heard": 130, "last": 40.0}, id="with the last verdict under its first name"),
        pytest.param({}, id="before there was a second of the last verdict"),
    ],
)
def test_an_episode_in_a_state_saved_before_an_upgrade_goes_on(state: dict[str, float]) -> None:
    _, still = tracked([[verdict(100)], [verdict(130)]], final=False)
    old = msgspec.json.decode(msgspec.json.encode(still))
    assert old[0].pop("heard") == 130
    restored = tuple(msgspec.convert([old[0] | state], type=list[Episode]))
    assert states(tracked([[verdict(180)]], restored=restored)[0]) == [("update", 180), ("close", 240)]


def anything(rng: random.Random, second: int) -> list[Verdict]:
    """Verdicts of any view, scope, mission and size on few hosts, so that they meet."""
    hosts = [f"h{i}" for i in range(rng.choice((3, 12)))]
    out = []
    for view in rng.choices(("pair", "source", "destination"), k=rng.randrange(9)):
        one, others = rng.choice(hosts), tuple(rng.sample(hosts, rng.randrange(1, min(len(hosts), 6))))
        sources, destinations = {"pair": ((one,), others[:1]), "source": ((one,), others), "destination": (others, (one,))}[view]
        mission, packets, stream = rng.choice(("DoS", "Brute Force")), rng.choice((4, 12, 30)), rng.choice((0, 20, 60))
        out.append(verdict(second, sources, destinations, view=view, mission=mission, packets=packets, stream_packets=stream))
    return out


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("policy", [Policy(update_s=20, close_s=60), Policy(update_s=10, close_s=5), Policy(update_s=0.5)])
def test_whatever_comes_an_episode_opens_once_closes_once_and_survives_a_restart(
    seed: int, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packetclip_sensor.alerts.episodes.MAX_DOCUMENTS", 20 * 6)
    rng = random.Random(seed)
    steps = [anything(rng, 100 + i * rng.choice((1, 1, 1, 30))) for i in range(120)]
    steps = [vs for vs in sorted(steps, key=lambda vs: vs[0].second if vs else 0) if vs]
    whole, still = tracked(steps, policy=policy)
    assert still == ()
    assert busiest(whole) <= 20 * 6
    by_id: dict[str, str] = {}
    for event in whole:
        by_id[event.episode.id] = by_id.get(event.episode.id, "") + event.state[0]
    assert all(re.fullmatch("ou*c", states_) for states_ in by_id.values())
    stop = rng.randrange(1, len(steps))
    first, open_ = tracked(steps[:stop], final=False, policy=policy)
    second, _ = tracked(steps[stop:], restored=saved(open_), policy=policy)
    assert content(first) + content(second) == content(whole)


def test_hosts_are_counted_under_a_key_of_their_episode() -> None:
    """Whoever forges sources cannot tell it beforehand, and a restart finds it again."""
    many = episode(id="0123456789abcdef0123", scope="many")
    open_episodes.begin_counts(many)
    open_episodes.begin_folding(many)
    assert [getattr(many, name).key for name in TALLIES[2:]] == [many.id] * 3
    assert [getattr(many.copy(), name).key for name in TALLIES[2:]] == [many.id] * 3


def test_what_opens_beyond_the_budget_is_marked_counted_and_stays_marked() -> None:
    policy, counters = Policy(alerts_per_day=2), Counters()
    events, _ = tracked([[verdict(100, (f"s{i}",), (f"d{i}",)) for i in range(3)]], policy=policy, counters=counters)
    marked = {state: [e.episode.over_budget for e in events if e.state == state] for state in ("open", "close")}
    assert marked == {"open": [False, False, True], "close": [False, False, True]}
    assert (counters.episodes, counters.episodes_over_budget) == (3, 1)
