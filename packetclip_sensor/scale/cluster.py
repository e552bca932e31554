"""Dask's workers: processes of this machine, or those of a scheduler that runs elsewhere and sees the same files.

Dask sends functions by name and arguments by pickle. So its own processes on this machine speak TLS with a key made for the run,
and whoever lends a scheduler must guard it as docs/scale.md says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from packetclip_sensor import __version__
from packetclip_sensor.errors import ConfigError, SensorError

try:
    from dask import config
    from distributed import Client, Future, KilledWorker, LocalCluster
    from distributed.security import Security
except ImportError as err:
    raise ConfigError("dask is not installed: pip install '.[scale]' in a clone") from err

T = TypeVar("T")
CONNECT_S = 30
UNOBSERVED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""By default Dask looks at its own processes some hundred times a second, which costs a tenth of their time."""


def submit(client: Client, task: Callable[..., T], *args: Any) -> Future[T]:
    """Ask for one result; those asked for first are made first. A worker that dies costs what it was at once more."""
    return client.submit(_checked, __version__, task, *args, pure=False)


def result(future: Future[T]) -> T:
    """What was asked for, once it is there.

    Raises:
        SensorError: what the task raised, or workers died at it again and again.
    """
    try:
        return future.result()
    except KilledWorker as err:
        raise SensorError(
            f"{err.allowed_failures + 1} workers died at the same cut; give each 1 GB of memory, or look at what killed them"
        ) from err


def _checked(version: str, task: Callable[..., T], *args: Any) -> T:
    if version != __version__:
        raise ConfigError(f"a worker has packetclip-sensor {__version__}, this is {version}; install the same one everywhere")
    return task(*args)


@contextmanager
def workers(count: int | None, scheduler: str | None) -> Iterator[Client]:
    """Start `count` workers on this machine, or go to a scheduler (tcp:// or tls:// with its address).

    Raises:
        ConfigError: both or neither is named, or no scheduler answers.
    """
    if (count is None) == (scheduler is None):
        raise ConfigError("give either --workers N or --scheduler ADDRESS")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # of a worker that dies nobody has to know
    with ExitStack() as open_till_end:
        if scheduler is None:
            security = Security.temporary()
            open_till_end.enter_context(config.set(UNOBSERVED))
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                security=security,
                silence_logs=logging.CRITICAL,
            )
            open_till_end.enter_context(cluster)
            client = Client(cluster, security=security)
        else:
            try:
                client = Client(scheduler, timeout=CONNECT_S)
            except (OSError, ValueError) as err:
                raise ConfigError(f"--scheduler {scheduler}: {err}; start `dask scheduler` there, or name another") from err
        yield open_till_end.enter_context(client)
