"""The lab's links and networks: when a frame leaves, what is drawn for a capture, and one real line as root."""

from __future__ import annotations

import ipaddress
import itertools
import os
import random
import re
import shutil
import subprocess
import time
from dataclasses import replace

import pytest

from training.lab import network
from training.lab.link import LINKS, Line, Link, draw
from training.lab.network import _netem
from training.lab.plan import network as plan
from training.lab.table import networks

PLAIN = Link("wan", delay_ms=10, jitter_ms=0, loss=0, reorder=0, rate_mbit=8)


def line(**changed: float) -> Line:
    return Line(replace(PLAIN, **changed), random.Random(1))


def test_a_frame_leaves_after_its_time_on_the_wire_and_the_delay_and_the_next_one_behind_it() -> None:
    # 1,000 bytes at 8 Mbit/s are 1 ms.
    wire = line()
    assert wire.due(100.0, 1000) == pytest.approx(100.011)
    assert wire.due(100.0, 1000) == pytest.approx(100.012)
    assert wire.due(100.5, 500) == pytest.approx(100.5105)


def test_jitter_adds_at_most_its_bound_and_keeps_the_order() -> None:
    wire = line(jitter_ms=30, rate_mbit=10**6)
    due = [wire.due(step / 1000, 100) or 0 for step in range(2000)]
    late = [when - step / 1000 - 0.010 for step, when in enumerate(due)]
    assert due == sorted(due)
    assert min(late) >= 0
    assert max(late) <= 0.0301
    assert max(late) - min(late) > 0.02


def test_the_share_of_lost_frames_is_the_loss() -> None:
    wire = line(loss=0.1, rate_mbit=10**6)
    lost = sum(wire.due(step / 100, 100) is None for step in range(10_000))
    assert 900 < lost < 1100


def test_a_full_queue_loses_what_would_wait_longer_than_four_tenths_of_a_second() -> None:
    # 1,200 bytes at 1 Mbit/s are 9.6 ms; the forty-second begins after 393.6 ms.
    wire = line(rate_mbit=1)
    assert [wire.due(0.0, 1200) is None for _ in range(50)] == [False] * 42 + [True] * 8


def test_a_frame_held_back_is_passed_by_those_behind_it() -> None:
    wire = line(reorder=0.2, rate_mbit=10**6)
    due = [wire.due(step / 10_000, 100) or 0 for step in range(1000)]
    assert sum(one > other for one, other in itertools.pairwise(due)) > 100


def test_netem_gets_half_the_jitter_on_both_sides() -> None:
    words = "limit 4000 delay 25.000ms 5.000ms loss 1.0000% rate 8mbit reorder 0.5000%"
    assert _netem(replace(PLAIN, delay_ms=20, jitter_ms=10, loss=0.01, reorder=0.005)) == words.split()


@pytest.mark.parametrize("kind", LINKS)
def test_a_drawn_link_lies_within_its_kind(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(100):
        link = draw(rng, kind)
        for value, (low, high) in zip(
            (link.delay_ms, link.jitter_ms, link.loss, link.reorder, link.rate_mbit), LINKS[kind], strict=True
        ):
            assert low <= value <= high


def test_the_networks_share_no_address_no_account_and_the_new_ones_no_port_or_ttl() -> None:
    drawn = {name: [plan(f"n{i}", name, 1, 20, vary=True)[0] for i in range(60)] for name in networks()}

    def inner(name: str) -> set[str]:
        inside = (host for capture in drawn[name] for host in capture.hosts[1:] if not host.addresses[0].endswith("/32"))
        return {str(ipaddress.ip_network(a, strict=False)) for host in inside for a in host.addresses}

    for one, other in itertools.combinations(networks(), 2):
        mine, theirs = networks()[one], networks()[other]
        assert not inner(one) & inner(other)
        assert not {*mine.outside} & {*theirs.outside}
        assert not {*mine.users} & {*theirs.users}
        if (one, other) != ("first", "demo"):
            assert not {*(mine.varied_ttls or mine.ttls)} & {*(theirs.varied_ttls or theirs.ttls)}
            assert not any({*ports} & {*theirs.ports[service]} for service, ports in mine.ports.items())


@pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("ping")),
    reason="network namespaces need root, iproute2 and ping",
)
def test_a_ping_over_a_link_of_ten_milliseconds_each_way_takes_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ping may be faster. A busy machine makes many slower, and loses some: of ten rounds one ping must be nearly as fast."""
    monkeypatch.setattr(network, "PREFIX", f"pct{os.getpid()}-")
    capture, _ = plan("ping", "first", 1, 5, vary=False)
    near, far = capture.hosts[1:3]
    hosts = [
        replace(near, addresses=["10.9.9.1/24"], routes=[], rate_mbit=0),
        replace(far, addresses=["10.9.9.2/24"], routes=[], link=replace(PLAIN, rate_mbit=1000)),
    ]
    capture = replace(capture, hosts=hosts, mtu=1500)
    try:
        try:
            network.build(capture, {})
        except (OSError, subprocess.CalledProcessError) as err:
            pytest.skip(f"this machine makes no network namespaces: {err}")
        ping = network.command_in(network.namespace(capture, far.name), ["ping", "-c", "10", "-i", "0.05", "10.9.9.1"])
        took: list[float] = []
        for _ in range(10):
            said = subprocess.run(ping, check=False, capture_output=True, text=True).stdout
            took += [float(ms) for ms in re.findall(r"time=([\d.]+)", said)]
            if len(took) >= 8 and min(took) < 40:
                break
            time.sleep(1)
    finally:
        removed = network.remove(network.namespace(capture, ""))
    assert len(took) >= 8, said
    assert 20 <= min(took) < 40
    assert removed == 3 + (not network.netem())
