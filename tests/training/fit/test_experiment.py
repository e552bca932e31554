"""Experiments: the shipped files, overrides, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from packetclip_sensor.errors import ConfigError
from training.fit import experiment
from training.fit.experiment import FOLDER, changed, read, settings, table
from training.fit.settings import Augment, Experiment


def test_the_default_experiment_is_the_default_of_every_setting() -> None:
    assert read(Path("default")) == Experiment()


def test_the_shipped_recipe_is_what_made_the_shipped_model() -> None:
    shipped = Experiment()
    stages = (shipped.bytes, shipped.words, shipped.contrast, shipped.reason)
    assert [stage.steps for stage in stages] == [100, 500, 600, 1000]
    assert [stage.batch for stage in stages] == [256, 384, 256, 256]
    assert (shipped.contrast.train_encoder, shipped.contrast.packet_weight) == (False, 0.3)
    assert (shipped.model.byte_dropout, shipped.model.packet_dropout) == (0.5, 0.2)
    assert shipped.augment == Augment(time=0.5, size=0.36, drop=0.1, noise=0.02)
    assert (shipped.model.width, shipped.model.layers, shipped.model.embedding, shipped.model.graph_width) == (64, 2, 64, 8)
    assert (shipped.contrast.learning_rate, shipped.reason.learning_rate) == (0.001, 0.002)


def test_the_default_file_names_and_explains_every_setting() -> None:
    lines = (FOLDER / "default.yaml").read_text().splitlines()
    raw = yaml.safe_load("\n".join(lines))
    for key, _, _ in settings():
        at = raw
        for name in key.split("."):
            assert name in at, key
            at = at[name]
    uncommented = [line for line in lines if ":" in line and "#" not in line and not line.endswith(":")]
    assert uncommented == []


@pytest.mark.parametrize("name", ["default", "small", "etbert"])
def test_shipped_experiments_are_valid_and_named_as_their_file(name: str) -> None:
    assert read(Path(name)).name == name


def test_overrides_change_settings_in_order() -> None:
    given = ["reason.steps=800", "reason.losses.decay=0.9999", "contrast.without=[SYN Flood]", "reason.steps=7"]
    found = read(Path("small"), given)
    assert found.reason.steps == 7
    assert found.reason.losses.decay == 0.9999
    assert found.contrast.without == ("SYN Flood",)


def test_a_number_with_an_exponent_and_no_point_is_a_number() -> None:
    assert changed(Experiment(), "bytes.learning_rate=3e-4").bytes.learning_rate == 0.0003


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reason.stepz=3", "unknown field `stepz` - at `\\$.reason`"),
        ("reason.steps=-1", ">= 0 - at `\\$.reason.steps`"),
        ("reason.steps=many", "Expected `int`, got `str` - at `\\$.reason.steps`"),
        ("contrast.betas=[0.9, 1.0]", "< 1.0 - at `\\$.contrast.betas\\[1\\]`"),
        ("model.encoder=resnet", "Invalid enum value 'resnet' - at `\\$.model.encoder`"),
        ("model.width=30", "width 30 is no multiple of heads 4"),
        ("model.patch=7", "patch 7 does not divide"),
        ("contrast.without=[Benign]", "'Benign' is not a class of attacks"),
        ("contrast.without=[SYN Floot]", "'SYN Floot' is not a class of attacks; there are"),
        ("reason", "write key=value"),
        ("seed.x=1", "seed holds no settings"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(override: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 3\n")
    with pytest.raises(ConfigError, match=message):
        read(file, [override])


def test_a_file_that_is_missing_or_no_mapping_is_refused(tmp_path: Path) -> None:
    message = r"nothing.yaml: No such file or directory; name a file, or one of default, etbert, small"
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds list, not settings"):
        read(tmp_path / "list.yaml")


def test_show_prints_settings_that_read_as_the_same_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment.main(["--show", "small", "seed=9"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert read(tmp_path / "again.yaml") == msgspec.structs.replace(read(Path("small")), seed=9)
    assert experiment.main(["--show", "small", "seed=-9"]) == 2
    assert "error: experiment" in capsys.readouterr().err


def test_the_documentation_holds_the_table_of_settings() -> None:
    assert table() in (Path(__file__).parents[3] / "docs" / "training.md").read_text()
