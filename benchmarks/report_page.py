"""How large the report gets and how fast Chromium shows it: seconds to the first table, milliseconds to filter and to open.

    python -m benchmarks.report_page ALERTS.ndjson [--episodes 5000]

The alerts are repeated, at other times and with other ids, until there are so many episodes.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.common import machine
from packetclip_sensor.common.resources import resource
from packetclip_sensor.view import alert_reader, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import browser  # lies beside the tests

SEARCHES = ("retry", "198.51", "syn flood", "nothing has this", "")
BEGIN = datetime(2026, 11, 14, tzinfo=UTC)


def repeated(documents: list[dict[str, Any]], episodes: int) -> list[dict[str, Any]]:
    """So many episodes within a week."""
    rng = random.Random(1)
    made = []
    for n in range(episodes):
        one = msgspec.json.decode(msgspec.json.encode(documents[n % len(documents)]))
        first = BEGIN + timedelta(days=7 * rng.random() ** 0.7)
        last = first + timedelta(seconds=rng.expovariate(1 / 90))
        one["@timestamp"], one["event"]["id"] = last.isoformat(), f"{n:020x}"
        one["packetclip"]["episode"] |= {"id": f"{n * 7919:020x}", "first": first.isoformat(), "last": last.isoformat()}
        made.append(one)
    return made


def main() -> None:
    """Make the page, open it five times, filter, open panels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alerts", type=Path, metavar="ALERTS")
    parser.add_argument("--episodes", type=int, default=5000)
    args = parser.parse_args()
    if browser.program() is None:
        sys.exit("error: no chromium on PATH; this benchmark needs it")
    documents = repeated(
        alert_reader.newest(alert_reader.read(args.alerts), since=None, until=None, mission=None, limit=10**9, where=""),
        args.episodes,
    )
    began = time.process_time()
    page = report.page(documents, title="Benchmark", model=resource("model/shipped"))
    made_s = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder, browser.Browser() as chromium:
        path = Path(folder, "report.html")
        path.write_text(page, encoding="utf-8")
        ready = []
        for _ in range(5):
            chromium.open(path)
            ready.append(float(chromium.run("document.documentElement.dataset.readyMs")) / 1000)
        filtered = []
        for words in SEARCHES * 3:
            chromium.type("#find", words)
            filtered.append(float(chromium.run("document.documentElement.dataset.filterMs")))
        opened = []
        for n in range(5):
            began = time.perf_counter()
            chromium.run(f"document.querySelectorAll('.line .open')[{10 * n}].click()")
            chromium.wait(f"document.querySelectorAll('.detail h2').length === {n + 1}")
            opened.append(1000 * (time.perf_counter() - began))
    print(f"{machine()}; {datetime.now(UTC):%Y-%m-%d}; {args.episodes:,} episodes")
    print(f"page {len(page.encode()) / 1e6:.1f} MB, made in {made_s:.1f} s of processor time")
    print(f"open to first table {statistics.median(ready):.2f} s median, {max(ready):.2f} s longest of {len(ready)}")
    print(f"filter {statistics.median(filtered):.0f} ms median, {max(filtered):.0f} ms longest of {len(filtered)}")
    print(f"open a panel {statistics.median(opened):.0f} ms median, {max(opened):.0f} ms longest of {len(opened)}")


if __name__ == "__main__":
    main()
