"""`python -m training.lab.clients FILE`: acts out the habits of one host, read from a JSON file, until its time is over."""

import asyncio
import contextlib
import ftplib
import json
import sys
import time
from pathlib import Path
from typing import Any

from training.lab.clients import HABITS
from training.lab.clients.base import RNG


async def act(item: dict[str, Any], until: float) -> None:
    """Act out one habit at its times."""
    await asyncio.sleep(item["at"])
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, EOFError, ftplib.Error):
            await HABITS[item["name"]](item["params"])
        if not item["every"]:
            return
        await asyncio.sleep(RNG.expovariate(1 / item["every"]))


async def main(plan: dict[str, Any]) -> None:
    """Act out all habits of this host side by side; ends at `seconds`."""
    RNG.seed(plan["seed"])
    until = time.monotonic() + plan["seconds"]
    acts = [asyncio.create_task(act(item, until)) for item in plan["habits"]]
    await asyncio.wait(acts, timeout=plan["seconds"])
    for task in acts:
        task.cancel()
    for item, end in zip(plan["habits"], await asyncio.gather(*acts, return_exceptions=True), strict=True):
        if isinstance(end, Exception):
            print(f"{item['name']}: {end!r}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
