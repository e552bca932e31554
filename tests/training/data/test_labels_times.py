"""Times as others write them: what they mean, and which are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from packetclip_sensor.errors import ConfigError
from training.data.labels.times import Local, TimeError, epoch, instant, local, zone

T0 = 1_700_000_000.0
"""2023-11-14T22:13:20Z."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", T0),
        ("1700000000.25", T0 + 0.25),
        ("2023-11-14T22:13:20Z", T0),
        ("2023-11-14 17:13:20.5-05:00", T0 + 0.5),
        ("+12.5", 1_000_012.5),
        ("+1:30", 1_000_090.0),
        ("+1:00:00.5", 1_003_600.5),
    ],
)
def test_an_interval_takes_epoch_seconds_zoned_times_and_times_from_the_first_packet(text: str, seconds: float) -> None:
    assert instant(text, 1_000_000.0) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("12.5", r"write \+12.5 for seconds after"),
        ("2023-11-14T22:13:20", "no time zone; append Z"),
        ("14/11/2023 22:13:20", "neither epoch seconds, nor ISO 8601"),
        ("", "neither"),
        ("1.2.3", "not a number"),
        ("+inf", "not a number"),
        ("1e999", "not a number"),
    ],
)
def test_a_time_that_may_mean_two_things_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TimeError, match=reason):
        instant(text, T0)


@pytest.mark.parametrize(
    ("text", "clock", "resolution", "marked"),
    [
        ("14/11/2023 05:13:20 PM", datetime(2023, 11, 14, 17, 13, 20), 1.0, True),
        ("14/11/2023 05:13:20.250 pm", datetime(2023, 11, 14, 17, 13, 20, 250_000), 0.001, True),
        ("14/11/2023 12:13:20\u202fAM", datetime(2023, 11, 14, 0, 13, 20), 1.0, True),
        ("14/11/2023 12:00:00 p.m.", datetime(2023, 11, 14, 12), 1.0, True),
        ("14/11/2023 05:13:20", datetime(2023, 11, 14, 5, 13, 20), 1.0, False),
        ("4/7/2017 8:54", datetime(2017, 7, 4, 8, 54), 60.0, False),
        ("2023-11-14 05:13:20.123456", datetime(2023, 11, 14, 5, 13, 20, 123_456), 0.000_001, True),
    ],
)
def test_the_spellings_of_flow_meters_are_read(text: str, clock: datetime, resolution: float, marked: bool) -> None:
    assert local(text) == Local(clock, resolution, marked)


def test_a_flows_number_or_zoned_time_needs_no_zone() -> None:
    assert [local(t) for t in ("1700000000", "1700000000000", "1700000000000000", "2023-11-14T22:13:20+00:00")] == [T0] * 4


def test_months_first_is_only_read_so_when_asked() -> None:
    assert local("07/04/2017 8:54:01", month_first=True) == Local(datetime(2017, 7, 4, 8, 54, 1), 1.0, False)
    with pytest.raises(TimeError, match="give --date-order mdy"):
        local("07/14/2017 8:54:01")


@pytest.mark.parametrize(
    "text", ["14/11/2023 13:00:00 PM", "14/11/2023 0:10:00 AM", "14/11/0023 10:00:00", "yesterday", "NaN", "5"]
)
def test_a_flows_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TimeError):
        local(text)


def test_the_hour_that_a_clock_shows_twice_or_never_is_refused() -> None:
    new_york = ZoneInfo("America/New_York")
    assert epoch(datetime(2023, 11, 14, 17, 13, 20), new_york) == T0
    for clock in (datetime(2023, 11, 5, 1, 30), datetime(2023, 3, 12, 2, 30)):
        with pytest.raises(TimeError, match="twice or never"):
            epoch(clock, new_york)


def test_a_zone_is_a_name_or_an_offset() -> None:
    noon = datetime(2023, 7, 1, 12, tzinfo=UTC)
    assert [noon.astimezone(zone(z)).hour for z in ("America/New_York", "-04:00", "+2", "+0530", "UTC")] == [8, 8, 14, 17, 12]
    with pytest.raises(ConfigError, match=r"time zone 'Mars/Olympus' is not known; give a name"):
        zone("Mars/Olympus")
    with pytest.raises(ConfigError, match="not known"):
        zone("../../etc/passwd")
