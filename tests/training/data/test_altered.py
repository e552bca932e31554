"""Records as worse sensors have them: what each way changes, and what stays."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from packetclip_sensor.pairs.labels import Labels, label_of
from packetclip_sensor.records import Packet
from packetclip_sensor.windows import headers
from training.data import altered
from training.data.ground_truth import records

CAPTURE = Path(__file__).parents[2] / "data" / "demo-dict-patator-ftp"


def packets(way: str = "") -> list[Packet]:
    def alter(batches):  # type: ignore[no-untyped-def]
        return altered.altered(batches, way, "c") if way else batches

    return [p for batch in records([CAPTURE], alter=alter) for p in batch.packets]


def conversation() -> list[Packet]:
    """A request of two packets and its two answers, 1 ms apart."""
    of_client = (True, False, True, False)
    return [Packet(1e-3 * i, "C", "a", 4000, "b", 80, "tcp", o, i + 1, 40, b"") for i, o in enumerate(of_client)]


@pytest.mark.parametrize("way", altered.WAYS)
def test_a_copy_is_the_same_each_time_keeps_the_attack_and_is_in_order(way: str) -> None:
    plain, made = packets(), packets(way)
    assert made == packets(way)
    assert [p.ts for p in made] == sorted(p.ts for p in made)
    labels = altered.WithDownloads(Labels.load(CAPTURE / "labels.json"))
    attacks = [sum(labels.of(p) is not None for p in some) for some in (plain, made)]
    assert 0.3 * attacks[0] < attacks[1] <= attacks[0]
    sides = [{(p.orig_h, p.resp_h) for p in some if labels.of(p)} for some in (plain, made)]
    assert sides[0] == sides[1]  # who is accused stays


def test_packets_are_numbered_as_they_arrive_and_the_first_seen_is_the_originator() -> None:
    c = conversation()
    swapped = altered.seen([(c[1], True), (c[0], True), (c[2], True), (c[3], True)])
    assert [p.n for p in swapped] == [1, 2, 3, 4]
    assert [(p.orig_h, p.is_orig) for p in swapped] == [("b", True), ("b", False), ("b", False), ("b", True)]
    kept = altered.seen((p, i != 1) for i, p in enumerate(c))
    assert [(p.n, p.ts) for p in kept] == [(1, 0.0), (2, 2e-3), (3, 3e-3)]


def test_logged_packets_behind_gaps_keep_their_numbers_but_for_what_was_lost() -> None:
    far = [Packet(float(n), "C", "a", 1, "b", 2, "udp", True, n, 40, b"") for n in (1, 2, 128, 256)]
    assert [p.n for p in altered.seen((p, p.n != 2) for p in far)] == [1, 127, 255]


def test_one_side_is_of_one_sender_alone_who_is_the_originator_as_zeek_has_it() -> None:
    found = [altered.one_side(conversation(), random.Random(seed)) for seed in range(8)]
    assert {tuple((p.orig_h, p.is_orig, p.n) for p in made) for made in found} == {
        (("a", True, 1), ("a", True, 2)),
        (("b", True, 1), ("b", True, 2)),
    }


def test_snapped_and_unreadable_packets_keep_length_and_headers() -> None:
    plain = packets()
    rng = random.Random(1)
    for short, p in zip(altered.snapped(68)(plain, rng), plain, strict=True):
        assert (short.data, short.size_bytes) == (p.data[:54], p.size_bytes)
    hidden = altered.unreadable(plain, rng)
    heads = zip(headers.read([p.data for p in plain]), headers.read([p.data for p in hidden]), strict=True)
    assert all(a == b for a, b in heads)
    assert sum(b"PASS" in p.data for p in plain) > 0 == sum(b"PASS" in p.data for p in hidden)


def test_downloads_are_whole_connections_between_the_same_hosts_and_benign() -> None:
    labels = Labels.load(CAPTURE / "labels.json")
    own = [p for p in packets("downloads") if p.uid.startswith(altered.DOWNLOAD)]
    assert len(own) > 30
    assert {(p.orig_h, p.resp_h) for p in own} <= {(a, b) for i in labels._intervals for a in i.attacker for b in i.victim}
    truth = altered.WithDownloads(labels)
    assert label_of([truth.of(p) for p in own])[0] == "Benign"
    head = next(headers.read([own[0].data], [own[0].size_bytes]))
    assert (head.proto, head.flags, head.payload_bytes) == (headers.TCP, headers.SYN, 0)


def test_ways_are_spread_over_captures_and_drawn_by_name_alone() -> None:
    ways = [altered.way_of(f"capture-{i}") for i in range(200)]
    assert set(ways) == set(altered.WAYS)
    assert ways == [altered.way_of(f"capture-{i}") for i in range(200)]
