"""What the sensor says of itself: events with keys on standard error, JSON for machines, coloured on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up(level: str) -> None:
    """Send every structlog event of `level` ("debug" to "error") and above to standard error, one line each."""
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if terminal:
        shared.append(structlog.dev.ConsoleRenderer())
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Not structlog's default standard output: that belongs to alerts.
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries that log the ordinary way (elastic_transport) say every retry; the sinks already do.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(message)s")
