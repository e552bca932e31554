"""How much faster workers are than one process, by the clock and in one run, and the memory of each.

    python -m benchmarks.scale [--workers 2] [--benign 20]

Input: tests/data, a capture every two minutes or so, and its benign captures so many times more: most traffic is benign, and
explaining alerts is no work of workers. Cuts are as long as they are by default; of shorter ones a greater part is read twice.
Workers are started before the clock. Where something else runs on the machine the figure by the clock is too low: look at the
load, and at the processor seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import long_logs
from distributed import Client

from benchmarks.common import banner, verdict
from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.pairs.labels import Labels
from packetclip_sensor.pairs.parquet import write_pairs
from packetclip_sensor.scale import cluster, judged
from packetclip_sensor.scale.cuts import cuts_of
from packetclip_sensor.scale.pairs import write_cuts
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.sources.discovery import Unit
from packetclip_sensor.windows.windows import TRAINED

BOUND, BOUND_MB = 1.5, 1000
PAUSE_S = 100.0


def memory_mb() -> float:
    """The most that this process held."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def imported() -> None:
    """Have what the tasks need, by its import with this module's function."""
    import pyarrow as pa

    from packetclip_sensor.scale import judged, pairs  # noqa: F401

    pa.array([0.0, None], from_pandas=True)  # imports pandas, where it is installed


def measured(work: Callable[[], object], client: Client) -> tuple[float, float, list[float]]:
    """Seconds by the clock, processor seconds of this process, and of each worker."""
    began, own, others = time.monotonic(), time.process_time(), client.run(time.process_time)
    work()
    took, own = time.monotonic() - began, time.process_time() - own
    return took, own, [after - others[name] for name, after in client.run(time.process_time).items()]


def main() -> None:
    """Measure both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--benign", type=int, default=20, help="how often benign captures stand in the log once more")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        folder = long_logs.write(Path(work, "logs"), benign=args.benign, pause_s=PAUSE_S)
        measure(folder, Path(work), args.workers)


def measure(folder: Path, work: Path, count: int) -> None:
    """One process, then workers, of each command."""
    banner(f"{count} workers over one process")
    unit, labels = Unit("logs", "logs", (folder,)), folder / "labels.json"
    how = judged.How.of(Bundle.open(Config().model_path), Config())

    def pairs() -> None:
        counters, rejects = Counters(), Rejects(None)
        batches = normalized(zeek.batches(tail.finite([folder]), rejects, counters), counters, rejects)
        write_pairs([("logs", batches, Labels.load(labels))], work / "pairs.parquet", TRAINED)

    def replay(name: str, found: Any = None) -> Counters:
        config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=work / name)))
        return pipeline.replay([(folder,)], config, found=lambda _: found)

    with cluster.workers(count, None) as client:

        def pairs_in_cuts() -> None:
            cuts = [(cut, labels) for cut in cuts_of(unit, memory_s=TRAINED.seconds)]
            write_cuts(client, cuts, work / "pairs", (), None)

        def replay_in_cuts() -> None:
            cuts = cuts_of(unit, memory_s=60.0)
            (work / "cuts").mkdir()
            replay("two.ndjson", judged.found_in(client, cuts, work / "cuts", how))

        client.run(imported)  # what each worker imports once is none of a long run's cost
        for name, one, two in (("pairs", pairs, pairs_in_cuts), ("replay", lambda: replay("one.ndjson"), replay_in_cuts)):
            alone, cost, _ = measured(one, client)
            together, own, each = measured(two, client)
            print(f"{name}: one process {alone:.1f} s by the clock, {count} workers {together:.1f} s")
            of_workers = ", ".join(f"{x:.1f}" for x in each)
            print(f"{name}: {cost:.1f} processor seconds alone; {of_workers} of workers and {own:.1f} beside them")
            verdict(f"{name}, times as fast by the clock", alone / together, BOUND, most=False)
            least = max(sum(each) + own, count * max(*each, own)) / count  # on as many idle cores as there are workers
            print(f"{name}, times as fast on {count} idle cores by processor seconds: {cost / least:.2f}")
        assert (work / "one.ndjson").read_bytes() == (work / "two.ndjson").read_bytes()
        for peak in client.run(memory_mb).values():
            verdict("memory of a worker", peak, BOUND_MB, unit=" MB")
        print(f"memory of the process that does both alone, and the one pass: {memory_mb():.0f} MB")
    banner("at the end")


if __name__ == "__main__":
    main()
