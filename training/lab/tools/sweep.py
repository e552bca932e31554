"""A plain port scanner by whole connections or empty datagrams, in order or shuffled, with even or random gaps."""

import argparse
import asyncio
import contextlib
import random
import socket


async def _tcp(host: str, port: int, wait: float) -> None:
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), wait)
        writer.close()


async def _udp(host: str, port: int, wait: float) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.connect((host, port))
        made.send(b"\r\n\r\n"[: random.randrange(5)])
        await asyncio.sleep(min(wait, 0.3))


async def main() -> None:
    """Ask every port of every host once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", help="addresses, with commas between them")
    parser.add_argument("ports", help="as 1-1000 or 22,80")
    parser.add_argument("--udp", action="store_true")
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--parallel", type=int, default=20)
    parser.add_argument("--gap", type=float, default=0.0, help="mean seconds between two probes")
    parser.add_argument("--random-gaps", action="store_true", help="exponential gaps instead of even ones")
    parser.add_argument("--wait", type=float, default=1.0)
    options = parser.parse_args()
    low, _, high = options.ports.partition("-")
    ports = range(int(low), int(high) + 1) if high else [int(port) for port in options.ports.split(",")]
    probes = [(host, port) for port in ports for host in options.hosts.split(",")]
    if options.shuffle:
        random.shuffle(probes)
    free, ask = asyncio.Semaphore(options.parallel), _udp if options.udp else _tcp

    async def one(host: str, port: int) -> None:
        await ask(host, port, options.wait)
        free.release()

    running = []
    for host, port in probes:
        await free.acquire()
        running.append(asyncio.create_task(one(host, port)))
        if options.gap:
            await asyncio.sleep(random.expovariate(1 / options.gap) if options.random_gaps else options.gap)
    await asyncio.gather(*running)


if __name__ == "__main__":
    asyncio.run(main())
