"""Files that are not Python, in the package or beside it."""

from __future__ import annotations

import pytest

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError


def test_resources_are_found_and_a_missing_one_is_named() -> None:
    assert (resource("zeek_scripts") / "__load__.zeek").exists()
    with pytest.raises(ConfigError, match="nothing_like_it is missing from"):
        resource("nothing_like_it")
