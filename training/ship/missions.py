"""Writes the missions of `training/missions/` into the manifest of a bundle, which is not trained anew.

For what a sensor says and does: titles, severity, colour, techniques, least evidence. Names, order and labels are what the model
learned: where they differ, the bundle is left as it is.

    python -m training.ship.missions --bundle packetclip_sensor/model/shipped

Exit codes: 0 written, 2 the bundle cannot be read, or learned other missions.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.model.bundle import FORMAT, MANIFEST
from training.common import argument, command, write_whole
from training.missions import ALL, MissionError


def described(missions: Missions) -> list[dict[str, Any]]:
    """The missions as a manifest has them.

    Raises:
        MissionError: mappings/attack.yaml has no name for a technique.
    """
    table = yaml.safe_load((resource("mappings") / "attack.yaml").read_text(encoding="utf-8"))["techniques"]
    for mission in missions:
        for technique in (mission.technique, *(klass.technique for klass in mission.classes)):
            if technique not in table:
                raise MissionError(f"{mission.name}: technique {technique} has no name in mappings/attack.yaml; add it there")
    found: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(list(missions)))
    return found


def renewed(manifest: dict[str, Any], missions: Missions) -> dict[str, Any]:
    """A manifest, of this format or of format 1, with these missions.

    Raises:
        ModelBundleError: its model learned others.
    """
    learned = [each if isinstance(each, str) else each["name"] for each in manifest["missions"]]
    for what, found, ours in (("missions", learned, missions.names), ("classes", manifest["classes"], missions.classes)):
        if list(found) != list(ours):
            theirs, those = ", ".join(found), ", ".join(ours)
            raise ModelBundleError(f"its {what} are {theirs}, those of training/missions {those}; train it anew (make model)")
    return manifest | {"format": FORMAT, "missions": described(missions)}


@command(argument("--bundle", type=Path, required=True, metavar="DIR", help="folder of the bundle"))
def main(args: argparse.Namespace) -> None:
    """Exit codes: 0 done, 2 the bundle is not usable."""
    path = args.bundle / MANIFEST
    try:
        manifest = renewed(json.loads(path.read_bytes()), ALL)
    except ModelBundleError as err:
        raise ModelBundleError(f"{path}: {err}") from err
    except (OSError, ValueError, LookupError, TypeError) as err:
        raise ModelBundleError(f"{path}: {err}; name the folder of a bundle") from err
    write_whole(path, json.dumps(manifest, indent=1) + "\n")
    print(f"{path}: {', '.join(ALL.names)}")


if __name__ == "__main__":
    sys.exit(main())
