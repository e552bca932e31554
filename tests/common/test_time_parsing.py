"""Spans of time from options."""

from __future__ import annotations

from math import inf

import pytest

from packetclip_sensor.common.time_parsing import span
from packetclip_sensor.elastic.streams import between
from packetclip_sensor.errors import ConfigError


def test_an_end_that_is_not_given_is_open_on_either_side_of_1970() -> None:
    assert span(None, None) == (-inf, inf)
    assert span(None, "1960-01-01") == (-inf, -315619200.0)
    assert span("1970-01-01", None) == (0.0, inf)


def test_nothing_between_two_times_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--since 2026-01-02 is not before --until 2026-01-01"):
        span("2026-01-02", "2026-01-01")


def test_a_query_names_only_the_ends_that_are_given() -> None:
    assert between(-inf, inf) == []
    assert between(0.0, 1.5) == [{"range": {"@timestamp": {"gte": 0, "lt": 1500, "format": "epoch_millis"}}}]
    assert between(-inf, 2.0) == [{"range": {"@timestamp": {"lt": 2000, "format": "epoch_millis"}}}]
