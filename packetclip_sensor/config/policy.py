"""What a policy says of missions, held against those of the model: a configuration is read before any bundle is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from packetclip_sensor.common.missions import Least, Missions
from packetclip_sensor.config.schema import suggestion
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.errors import ConfigError


def for_missions(policy: Policy, missions: Missions) -> Policy:
    """The policy with what it says of missions by their names, and with the least evidence of each: the model's own, where the
    policy names no other. To ask twice changes nothing.

    Raises:
        ConfigError: it names a mission that the model does not have, by neither name nor id, or one mission twice.
    """
    named = {
        key: _by_name(key, values, missions)
        for key in policy.__struct_fields__
        if isinstance(values := getattr(policy, key), dict)
    }
    least = {mission.name: _over(mission.least, named["least"].get(mission.name, Least())) for mission in missions}
    return replace(policy, **(named | {"least": least}))


def _over(own: Least, site: Least) -> Least:
    asked = {key: getattr(own if getattr(site, key) is None else site, key) for key in Least.__struct_fields__}
    return Least(**asked)


def _by_name(key: str, values: Mapping[str, Any], missions: Missions) -> dict[str, Any]:
    known = {id_: name for id_, name in missions.by_id.items() if name in missions} | {name: name for name in missions.names}
    found: dict[str, Any] = {}
    for written, value in values.items():
        name = known.get(written)
        if name is None:
            hint, also = suggestion(written, known), f", or {written}_packets does" if key == "least" else ""
            raise ConfigError(
                f"policy.{key} names {written!r}{also}: no such mission{hint}; missions: {', '.join(missions.names)}"
            )
        if name in found:
            raise ConfigError(f"policy.{key} names {name} twice, once by its id {missions[name].id}; keep one")
        found[name] = value
    return found
