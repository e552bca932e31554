"""The faults: what is done to the sensor, to the disk below its state folder, to Elasticsearch and on the way there."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

from . import proxy, workload
from .proxy import Act
from .undergo import Disturb, Scene

# What is done to the sensor.


def nothing(times: int) -> Disturb:
    return lambda scene: scene.wait(times * scene.zeek.pause_s * 2 * workload.BURSTS)


def kills(times: int) -> Disturb:
    """kill -9 at random moments: three in ten while it starts, the others once it has judged something."""

    def disturb(scene: Scene) -> None:
        for _ in range(times):
            if scene.random.random() > 0.3:
                scene.await_progress()
            scene.wait(scene.random.random() * 1.5)
            scene.sensor.kill()
            scene.sensor.start()

    return disturb


def stopped(times: int, seconds: float) -> Disturb:
    """SIGSTOP, and SIGCONT after a while."""

    def disturb(scene: Scene) -> None:
        for _ in range(times):
            scene.await_progress()
            scene.wait(scene.random.random())
            scene.sensor.process.send_signal(signal.SIGSTOP)
            scene.wait(seconds)
            scene.sensor.process.send_signal(signal.SIGCONT)

    return disturb


def corrupted(times: int) -> Disturb:
    """The checkpoint is damaged while the sensor is down, now and then together with the one before."""
    damages: tuple[Callable[[bytes], bytes], ...] = (
        lambda raw: raw.replace(b"1", b"2"),
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"\0" * len(raw),
        lambda raw: raw.replace(b'"positions"', b'"pos\xff\xfeions"'),
        lambda raw: b"[" * 10_000,
        lambda raw: raw + raw,
    )

    def disturb(scene: Scene) -> str:
        both = 0
        state = scene.sensor.state / "state.json"
        for number in range(times):
            scene.await_progress()
            scene.sensor.kill()
            state.write_bytes(damages[number % len(damages)](state.read_bytes()))
            old = state.with_name("state.json.old")
            if number % 3 == 2 and old.exists():
                old.write_bytes(b"\0")
                both += 1
            scene.sensor.start()
        return f"{both} times the one before as well"

    return disturb


# What is done to the disk below the state folder.


def full_disk(times: int, seconds: float) -> Disturb:
    """Nothing fits on the state folder's disk any more, for a while."""

    def disturb(scene: Scene) -> str:
        for _ in range(times):
            scene.await_progress()
            ballast = scene.sensor.state / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"x" * 4096):
                    pass
            scene.wait(seconds)
            ballast.unlink()
        return _restarts(scene)

    return disturb


def read_only(times: int, seconds: float) -> Disturb:
    """The state folder cannot be written for a while. Root may always: the sensor runs without that right (see Sensor.start)."""

    def disturb(scene: Scene) -> str:
        for _ in range(times):
            scene.await_progress()
            scene.sensor.state.chmod(0o555)
            scene.wait(seconds)
            scene.sensor.state.chmod(0o755)
        return _restarts(scene)

    return disturb


def _restarts(scene: Scene) -> str:
    exits = scene.sensor.exits
    return f"{len(exits)} restarts by the supervisor, exit codes {sorted(set(exits))}" if exits else "the sensor held on"


# What is done to Elasticsearch, and to the way there.


def acting(times: int, act: Act, *, share: float = 0.7) -> Disturb:
    """`act` on that share of bulk requests, by chance, until it has been done `times` times."""

    def disturb(scene: Scene) -> None:
        def choose(exchange: proxy.Exchange) -> Act:
            due = exchange.is_bulk and scene.proxy.acts[act.__name__] < times and scene.random.random() < share
            return act if due else proxy.forwarded

        scene.proxy.choose = choose
        scene.await_acts(act.__name__, times)
        scene.proxy.heal()

    return disturb


def storms(times: int, codes: tuple[int, ...], seconds: float, retry_after_s: int | None = None) -> Disturb:
    """Every request is answered with one of `codes`, for a while; and again once documents have passed."""

    def disturb(scene: Scene) -> str:
        answered = 0
        for number in range(times):
            scene.await_progress()
            act = proxy.status(codes[number % len(codes)], retry_after_s)
            before = scene.proxy.acts[act.__name__]
            scene.proxy.choose = lambda exchange, act=act: act
            scene.wait(seconds)
            scene.await_acts(act.__name__, before + 1, 60)
            scene.proxy.heal()
            answered += scene.proxy.acts[act.__name__] - before
        return f"{answered} requests refused"

    return disturb


def refused(times: int, seconds: float) -> Disturb:
    """Nothing listens, and open connections are cut."""

    def disturb(scene: Scene) -> None:
        for _ in range(times):
            scene.await_progress()
            scene.proxy.down()
            scene.wait(seconds)
            scene.proxy.up()

    return disturb


def away(times: int, seconds: float) -> Disturb:
    """Elasticsearch is stopped properly, and started again after a while. Zeek goes on writing."""

    def disturb(scene: Scene) -> str:
        notes = []
        for _ in range(times):
            scene.await_progress()
            before = scene.sensor.rss_mb()
            scene.proxy.down()
            assert scene.node
            scene.node.end()
            scene.peak_mb = 0.0
            scene.wait(seconds)
            notes.append(f"sensor's memory {before:.0f} MiB before, at most {scene.peak_mb:.0f} MiB while away")
            scene.node.start()
            scene.proxy.up()
        return "; ".join(notes)

    return disturb


def killed_in_bulk(times: int) -> Disturb:
    """Elasticsearch is killed -9 with a bulk request in its hands, and started again on the same data.

    Zeek goes on for a second only: what a slow machine's node takes to start would make far more to catch up with.
    """

    def disturb(scene: Scene) -> None:
        assert scene.node
        node = scene.node

        def killed(exchange: proxy.Exchange) -> None:
            threading.Timer(scene.random.random() * 0.01, node.end, (signal.SIGKILL,)).start()
            exchange.forward()
            exchange.cut(reset=True)

        for number in range(1, times + 1):
            scene.await_progress()
            scene.proxy.choose = lambda exchange, number=number: (
                killed if exchange.is_bulk and scene.proxy.acts["killed"] < number else proxy.forwarded
            )
            scene.await_acts("killed", number)
            scene.wait(1.0)
            scene.zeek.writing.clear()
            node.start()
            scene.zeek.writing.set()

    return disturb


def receivers_away(times: int, seconds: float) -> Disturb:
    """Each receiver beside the main sink is away for a while, one after the other."""

    def disturb(scene: Scene) -> None:
        for _ in range(times):
            for receiver in scene.receivers:
                scene.await_progress()
                receiver.down()
                scene.wait(seconds)
                receiver.up()

    return disturb


def in_turn(*disturbs: Disturb) -> Disturb:
    """One after the other on one sensor."""

    def disturb(scene: Scene) -> str:
        return "; ".join(filter(None, (each(scene) for each in disturbs)))

    return disturb


def rotating(times: int) -> Disturb:
    """Wait until Zeek has rotated so often."""

    def disturb(scene: Scene) -> None:
        while scene.zeek.rotated < times and scene.zeek.failure is None:
            scene.wait(0.2)

    return disturb
