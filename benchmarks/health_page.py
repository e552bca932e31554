"""How much of a core the sensor's pages take when somebody asks for /metrics and /health without end.

python -m benchmarks.health_page [--runs 3] [--callers 8]

Judges the recorded captures of tests/data with the pages served, by turns in peace and while another process asks from several
threads. The processor seconds of the sensor's process are compared, not the time on the wall: whoever asks takes a core too.
Above 5 % of one core the exit code is 1.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import socket
import sys
import threading
import time
from multiprocessing.synchronize import Event

import structlog

from benchmarks.common import CAPTURES
from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config, HealthConfig
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.health_page import HealthPage
from packetclip_sensor.sources import tail, zeek


def hammer(port: int, callers: int, end: Event, answers: multiprocessing.Queue[int]) -> None:
    """Ask as fast as it goes until `end`; puts the number of answers."""
    counts = [0] * callers

    def ask(number: int) -> None:
        while not end.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
                    line.sendall((b"GET /metrics", b"GET /health")[number % 2] + b" HTTP/1.1\r\n\r\n")
                    while line.recv(65536):
                        pass
                counts[number] += 1
            except OSError:
                continue

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(sum(counts))


def judge(bundle: Bundle, callers: int) -> tuple[float, float, int]:
    """Processor and other seconds that all captures took, and pages answered meanwhile."""
    counters = Counters()
    health = Health(HealthConfig(port=0), counters)
    with HealthPage(health) as page:
        end = multiprocessing.Event()
        answers: multiprocessing.Queue[int] = multiprocessing.Queue()
        other = multiprocessing.Process(target=hammer, args=(page.port, callers, end, answers))
        if callers:
            other.start()
            time.sleep(1.0)
        wall, began = time.perf_counter(), time.process_time()
        for capture in CAPTURES:
            batches = zeek.batches(tail.finite([capture]), Rejects(None), counters)
            for _ in pipeline.alerts(batches, bundle, Config(), counters, checkpoint.State(), health):
                health.moved()
        took_s = time.process_time() - began
        end.set()
        wall_s = time.perf_counter() - wall
        asked = answers.get() if callers else 0
        if callers:
            other.join()
    return took_s, wall_s, asked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--callers", type=int, default=8)
    options = parser.parse_args()
    bundle = Bundle.open(Config().model_path)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    judge(bundle, 0)  # what is loaded once
    peace, asked = [], []
    for _ in range(options.runs):
        peace.append(judge(bundle, 0))
        asked.append(judge(bundle, options.callers))
    calm = min(cpu_s for cpu_s, *_ in peace)
    cpu_s, wall_s, answers = min(asked)
    share = (cpu_s - calm) / wall_s
    print(f"CPU seconds: {calm:.2f} in peace, {cpu_s:.2f} in {wall_s:.1f} s with {options.callers} callers")
    print(f"who got {answers / wall_s:.0f} answers a second; that took {share:.1%} of one core")
    return 0 if share <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
