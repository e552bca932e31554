"""Makes the Elastic integration package from what the sensor's own templates, pipeline and saved objects are made from.

python -m mappings.integration.build                        dist/packetclip-VERSION.zip, for Kibana's upload
python -m mappings.integration.build --source DIR           besides, the source tree DIR/packetclip, for elastic-package
python -m mappings.integration.build --model DIR --kibana FILE     for another bundle; FILE is made by mappings/kibana/build.py

`packetclip/` beside this file holds what is written by hand: manifests, changelog, page, icon, the agent's input, and recorded
sample events of the two streams that tests/golden has no documents of. Everything else is made here and never committed.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mappings import build_fields
from mappings.integration import fields, rules
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import setup, streams, templates
from packetclip_sensor.model.bundle import manifest_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BY_HAND = HERE / "packetclip"
KIBANA = HERE.parent / "kibana" / "packetclip.ndjson"
GOLDEN = ROOT / "tests" / "golden" / "alerts.ndjson"
RETENTION = {streams.ALERTS: "365d", streams.FLOWS: "30d", streams.HEALTH: "30d"}
FOLDERS = {"index-pattern": "index_pattern"}
"""Folders of saved objects that are not named as their type."""
FAILED = (
    "Pipeline '{{{ _ingest.pipeline }}}': processor '{{{ _ingest.on_failure_processor_type }}}' with tag "
    "'{{{ _ingest.on_failure_processor_tag }}}' failed with message '{{{ _ingest.on_failure_message }}}'"
)
Json = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """YAML whose lists are indented, as the public repository of integrations formats it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _yaml(value: Any, head: str = "") -> bytes:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return (head + text).encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=4, ensure_ascii=False) + "\n").encode()


def package(missions: Missions, kibana: Path = KIBANA, *, built: bool) -> dict[str, bytes]:
    """Every file of the package by its path.

    Args:
        missions: those of the model, which some fields and rules are named after.
        kibana: saved objects, a JSON object a line.
        built: as Kibana takes it, with ECS's types filled in; else as a source, in which ECS fields name ECS.
    """
    described = build_fields.described(build_fields.of_missions(build_fields.FIELDS.read_text(encoding="utf-8"), missions))
    files = {path.relative_to(BY_HAND).as_posix(): path.read_bytes() for path in sorted(BY_HAND.rglob("*")) if path.is_file()}
    if built:
        files = {path: content for path, content in files.items() if not path.startswith("_dev/")}
    files["LICENSE.txt"] = (ROOT / "LICENSE").read_bytes()
    page = files["docs/README.md"].decode()
    for dataset in streams.DATASETS:
        name = dataset.partition(".")[2]
        folder = f"data_stream/{name}"
        definitions = fields.of_stream(dataset, missions, described)
        for file, each in definitions.items():
            files[f"{folder}/fields/{file}.yml"] = _yaml([fields.resolved(one, described) for one in each] if built else each)
        files[f"{folder}/elasticsearch/ingest_pipeline/default.yml"] = _yaml(pipeline(), "---\n")
        files[f"{folder}/elasticsearch/ilm/default_policy.json"] = _json({"policy": {"phases": phases(RETENTION[dataset])}})
        files[f"{folder}/lifecycle.yml"] = _yaml({"data_retention": RETENTION[dataset]})
        page = page.replace(f"{{{{fields {name}}}}}\n", fields.table(definitions, described))
    files["docs/README.md"] = page.encode()
    files["data_stream/alert/sample_event.json"] = _json(json.loads(GOLDEN.read_bytes().splitlines()[0]))
    for made in _saved_objects(missions, kibana):
        files[f"kibana/{FOLDERS.get(made['type'], made['type'].replace('-', '_'))}/{made['id']}.json"] = _json(made)
    return dict(sorted(files.items()))


def pipeline() -> Json:
    """The pipeline of `packetclip setup elasticsearch`, with what the package specification adds: tags and `on_failure`.

    Elastic Agent moves `event.id` to `_id`, so that a line that is read twice is stored once; here it comes back.
    """
    ours = templates.read("pipeline", setup.PIPELINE)
    steps: list[Json] = [{"set": {"field": "event.id", "copy_from": "_id", "override": False, "ignore_empty_value": True}}]
    tagged = []
    for step in steps + ours["processors"]:
        ((kind, options),) = step.items()
        tag = f"{kind}_{options.get('field', options.get('name'))}".replace(".", "_").replace("-", "_").replace("@", "_")
        tagged.append({kind: {"tag": tag, **options}})
    on_failure = [
        {"set": {"tag": "set_pipeline_error", "field": "event.kind", "value": "pipeline_error"}},
        {"append": {"tag": "append_error_message", "field": "error.message", "value": FAILED}},
    ]
    return {"description": ours["description"], "processors": tagged, "on_failure": on_failure}


def phases(retention: str) -> Json:
    """Phases of an ILM policy: a new index as often as `packetclip setup elasticsearch` makes one, gone after `retention`."""
    return {
        "hot": {"min_age": "0ms", "actions": {"rollover": setup.ROLLOVER}},
        "delete": {"min_age": retention, "actions": {"delete": {}}},
    }


def _saved_objects(missions: Missions, kibana: Path) -> Iterator[Json]:
    for line in kibana.read_text(encoding="utf-8").splitlines():
        made = json.loads(line)
        del made["managed"]  # Fleet says that it manages them
        yield made
    yield from rules.rules(missions)


def write_zip(files: dict[str, bytes], out: Path) -> None:
    """The archive that Kibana takes: all files in one folder NAME-VERSION; the same bytes from the same files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"{out.stem}/{path}", (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="where the zip goes; by default dist")
    parser.add_argument("--source", type=Path, metavar="DIR", help="write DIR/packetclip, the source tree, as well")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model bundle; by default the sensor's own")
    parser.add_argument("--kibana", type=Path, default=KIBANA, metavar="FILE", help="saved objects; by default our own")
    args = parser.parse_args()
    missions = manifest_of(args.model or resource("model/shipped")).missions
    built = package(missions, args.kibana, built=True)
    manifest = yaml.safe_load(built["manifest.yml"])
    out = args.out / f"{manifest['name']}-{manifest['version']}.zip"
    write_zip(built, out)
    print(f"{out}: {len(built)} files, {out.stat().st_size >> 10} KB")
    if args.source:
        for path, content in package(missions, args.kibana, built=False).items():
            target = args.source / manifest["name"] / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        print(f"{args.source / manifest['name']}: the source tree")


if __name__ == "__main__":
    main()
