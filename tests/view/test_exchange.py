"""The Navigator layer and the STIX bundle of the golden alerts: what the public formats require, and that counts are right."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from packetclip_sensor.cli.app import main
from packetclip_sensor.view.exchange.stix import _observable, bundle

GOLDEN = Path(__file__).parents[1] / "golden" / "alerts.ndjson"
REQUIRED = {
    "identity": {"name", "created", "modified"},
    "attack-pattern": {"name", "created", "modified"},
    "observed-data": {"first_observed", "last_observed", "number_observed", "object_refs", "created", "modified"},
    "sighting": {"sighting_of_ref", "created", "modified"},
    "ipv4-addr": {"value"},
    "ipv6-addr": {"value"},
    "network-traffic": {"protocols"},
}
"""By type, beside type, spec_version and id: the properties that STIX 2.1 requires."""
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("report")
    options = ["--out", "page.html", "--navigator", "layer.json", "--stix", "bundle.json"]
    options = [str(folder / word) if "." in word else word for word in options]
    assert main(["report", str(GOLDEN), *options]) == 0
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("layer", "bundle")}


def episodes() -> dict[str, dict[str, Any]]:
    found = map(json.loads, GOLDEN.read_text().splitlines())
    return {document["packetclip"]["episode"]["id"]: document for document in found}


def test_the_layer_counts_the_episodes_of_each_technique(written: dict[str, Any]) -> None:
    layer = written["layer"]
    assert (layer["domain"], layer["versions"]["layer"]) == ("enterprise-attack", "4.5")
    techniques = [one["threat"]["technique"] for one in episodes().values()]
    expected = Counter((one.get("subtechnique") or one)["id"][0] for one in techniques)
    assert {each["techniqueID"]: each["score"] for each in layer["techniques"]} == expected
    assert layer["gradient"]["maxValue"] == max(expected.values())


def test_the_bundle_has_what_stix_requires_and_every_reference_is_in_it(written: dict[str, Any]) -> None:
    things = {thing["id"]: thing for thing in written["bundle"]["objects"]}
    assert len(things) == len(written["bundle"]["objects"])
    for id_, thing in things.items():
        assert re.fullmatch(
            rf"{thing['type']}--[0-9a-f]{{8}}-[0-9a-f]{{4}}-5[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}", id_
        )
        assert thing["spec_version"] == "2.1"
        assert REQUIRED[thing["type"]] <= thing.keys()
        assert all(thing.values())
        for name, value in thing.items():
            if name.endswith(("_ref", "_refs")):
                assert set(value if isinstance(value, list) else [value]) <= things.keys()
            if name in ("created", "modified") or name.startswith(("first_", "last_")):
                assert re.fullmatch(TIME, value), (name, value)
    kinds = Counter(thing["type"] for thing in things.values())
    assert kinds["sighting"] == kinds["observed-data"] == len(episodes())


def test_ids_are_those_of_the_specification_and_do_not_change() -> None:
    """The id of an address, as the stix2 library of OASIS makes it."""
    assert _observable("ipv4-addr", value="198.51.100.3")["id"] == "ipv4-addr--28bb3599-77cd-5a82-a950-b5bc3caf07c4"
    documents = list(episodes().values())
    assert bundle(documents, "t") == bundle(documents, "t")


def test_hostile_documents_make_no_wrong_bundle() -> None:
    document = {"threat": {"technique": {"id": ["T1"]}}, "source": {"ip": ["no address", 7], "port": "x"}, "event": {"start": 1}}
    assert [thing["type"] for thing in bundle([document], "t")["objects"]] == ["identity", "attack-pattern"]
