"""The integration package as Kibana's Fleet would put it into Elasticsearch, which the test node has to do without.

From its files to component and index template, by the rules that Fleet's documentation and sources give: names, priority,
`_meta`, the components of an index template, and the mapping of each kind of field definition. What only licensed modules have
(constant keywords and the like) becomes the type that Elasticsearch searches in the same way; ILM and ingest pipelines are left
out.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from elasticsearch import Elasticsearch

FAMILY = {"constant_keyword": "keyword", "wildcard": "keyword", "match_only_text": "text"}
"""Types that the test node has not, and what is searched in the same way."""
META = {"managed_by": "fleet", "managed": True, "package": {"name": "packetclip"}}
Json = dict[str, Any]


@dataclass(frozen=True)
class Package:
    """The files of a package by their path."""

    files: dict[str, bytes]

    @classmethod
    def of_zip(cls, path: Path) -> Package:
        with zipfile.ZipFile(path) as archive:
            return cls({name.partition("/")[2]: archive.read(name) for name in archive.namelist()})

    @classmethod
    def of_folder(cls, folder: Path) -> Package:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    def renamed(self, old: str, new: str) -> Package:
        """With another data stream's name in every file, so that a test does not meet another's templates."""
        return Package({path: content.replace(old.encode(), new.encode()) for path, content in self.files.items()})

    def yaml(self, path: str) -> Any:
        return yaml.safe_load(self.files[path])

    def json(self, path: str) -> Any:
        return json.loads(self.files[path])

    def paths(self, start: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(start))

    def objects(self, kind: str) -> list[Json]:
        """Saved objects of a folder."""
        return [self.json(path) for path in self.paths(f"kibana/{kind}/")]

    def fields(self, stream: str) -> list[Json]:
        """All field definitions of a data stream."""
        return [each for path in self.paths(f"data_stream/{stream}/fields/") for each in self.yaml(path)]

    def template(self, stream: str) -> Json:
        """What Fleet puts as `logs-packetclip.STREAM@package`."""
        settings: Json = {"mapping": {"ignore_malformed": True}}  # of `logs@settings`
        manifest = self.yaml(f"data_stream/{stream}/manifest.yml")["elasticsearch"]["index_template"]["mappings"]
        return {"settings": {"index": settings}, "mappings": {**manifest, "properties": properties(self.fields(stream))}}

    def install(self, client: Elasticsearch, stream: str, dataset: str) -> None:
        """Put one data stream's templates."""
        name = f"logs-{dataset}"
        client.cluster.put_component_template(name=f"{name}@package", template=self.template(stream), meta=META)
        client.indices.put_index_template(
            name=name,
            index_patterns=[f"{name}-*"],
            priority=200,
            data_stream={},
            composed_of=[f"{name}@package", f"{name}@custom"],
            ignore_missing_component_templates=[f"{name}@custom"],
            template={"mappings": {"_meta": META}},
            meta=META,
        )


def properties(definitions: list[Json]) -> Json:
    """A mapping's properties, names with dots opened."""
    made: Json = {}
    for definition in definitions:
        *parents, name = definition["name"].split(".")
        inside = made
        for parent in parents:
            inside = inside.setdefault(parent, {}).setdefault("properties", {})
        there = inside.setdefault(name, {})
        for key, value in _mapping(definition).items():
            if key == "properties":
                there.setdefault("properties", {}).update(value)
            else:
                there[key] = value
    return made


def _mapping(definition: Json) -> Json:
    """Fleet honours no more than this; `ignore_malformed` is not among it."""
    kind = definition["type"]
    given = {key: definition[key] for key in ("index", "doc_values") if key in definition}
    match kind:
        case "group":
            made = {key: definition[key] for key in ("dynamic", "enabled") if key in definition}
            return made | {"properties": properties(definition["fields"])}
        case "nested":
            return {"type": kind, "properties": properties(definition["fields"])}
        case "keyword" | "wildcard":
            made = {"type": "keyword", **given} | ({} if given else {"ignore_above": definition.get("ignore_above", 1024)})
        case _:
            made = {"type": FAMILY.get(kind, kind), **given}
    if "multi_fields" in definition:
        made["fields"] = {each["name"]: {"type": FAMILY.get(each["type"], each["type"])} for each in definition["multi_fields"]}
    return made


def types(definitions: list[Json], prefix: str = "") -> dict[str, str]:
    """Every field of definitions with its type; "external" where only ECS knows it."""
    found: dict[str, str] = {}
    for each in definitions:
        name = prefix + each["name"]
        kind = each.get("type", "external")
        found |= {} if kind == "group" else {name: kind}
        found |= types(each.get("fields", []), f"{name}.")
    return found
