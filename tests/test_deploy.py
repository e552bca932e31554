"""The container files: pinned images, mounts that exist, a configuration that the sensor takes, nothing open to the network."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from packetclip_sensor.config.config_file import load

DEPLOY = Path(__file__).parent.parent / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def compose_v2() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not compose_v2(), reason="no docker compose v2 here; install it to have compose.yaml checked by it")
def test_compose_takes_the_file() -> None:
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    ended = subprocess.run(command, env={"INTERFACE": "lo", "PATH": "/usr/bin:/usr/local/bin"}, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_versions_mounts_exist_and_ports_are_this_machines(name: str) -> None:
    service = SERVICES[name]
    assert "build" in service or service["image"].partition(":")[2]
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert not source.startswith(".") or (DEPLOY / source).exists(), mount
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_sensor_takes_its_configuration_and_reads_where_zeek_writes() -> None:
    config = load(DEPLOY / "sensor.yaml")
    assert config.sink.elasticsearch is not None
    host = config.sink.elasticsearch.hosts[0]
    assert host.partition("://")[2].split(":")[0] in SERVICES
    assert [str(path) for path in config.logs] == [SERVICES["zeek"]["working_dir"]]
    mounted = [mount.split(":")[1] for mount in SERVICES["sensor"]["volumes"]]
    assert {str(config.state_dir), "/etc/packetclip/sensor.yaml", "/logs"} == set(mounted)


def test_the_image_takes_all_that_the_wheel_needs() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "pyproject.toml", "requirements"}
    let_in = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert needed <= let_in
