"""The container files: pinned images, mounts that exist, a configuration that the sensor takes, nothing open to the network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from packetclip_sensor.config.config_file import load
from packetclip_sensor.sources.pcap import find_zeek

DEPLOY = Path(__file__).parent.parent / "deploy"
ZKG = Path(sys.executable).parent / "zkg"
BASE = "docker.io/library/python:3.12-slim"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def compose_v2() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not compose_v2(), reason="no docker compose v2 here; install it to have compose.yaml checked by it")
def test_compose_takes_the_file() -> None:
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    ended = subprocess.run(command, env=os.environ | {"INTERFACE": "lo"}, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr


def no_engine() -> str | None:
    """Why the image cannot be built here: it takes buildah, as root, and the base image, which no test fetches."""
    if os.geteuid() or not shutil.which("buildah"):
        return "the image is built by root with buildah: apt install buildah"
    base = subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False)
    return f"no image {BASE} here: buildah pull {BASE}" if base.returncode else None


@pytest.mark.skipif(no_engine() is not None, reason=str(no_engine()))
def test_the_image_is_built_and_judges_as_its_own_user() -> None:
    def buildah(*command: str) -> str:
        ended = subprocess.run(["buildah", *command], cwd=DEPLOY.parent, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    buildah("bud", "--pull-never", "--isolation", "chroot", "-f", "deploy/Dockerfile", "-t", "packetclip-tested", ".")
    container = buildah("from", "--pull-never", "localhost/packetclip-tested").strip()
    try:
        run = (
            "run",
            "--isolation",
            "chroot",
            "--user",
            "packetclip",
            "-v",
            f"{DEPLOY.parent / 'tests' / 'data'}:/logs:ro",
            container,
            "--",
        )
        assert buildah(*run, "id", "-u").strip() == "9758"
        assert "1 episode" in buildah(*run, "packetclip", "replay", "/logs/demo-dict-patator-ftp", "--out", "/tmp/alerts.ndjson")
    finally:
        buildah("rm", container)
        buildah("rmi", "localhost/packetclip-tested")


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_versions_mounts_exist_ports_are_this_machines_and_no_secret_stands_there(name: str) -> None:
    service = SERVICES[name]
    assert "build" in service or service["image"].partition(":")[2]
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert not source.startswith(".") or (DEPLOY / source).exists(), mount
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not [key for key in service.get("environment", {}) if re.search("password|secret|token|key", key, re.IGNORECASE)]
    for other, wanted in service.get("depends_on", {}).items():
        assert wanted == {"condition": "service_healthy"}
        assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"


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


@pytest.mark.skipif(not ZKG.exists() or find_zeek() is None, reason="needs Zeek, and zkg in this environment: pip install zkg")
def test_zkg_bundles_the_package_in_little_and_removes_it_by_its_name(tmp_path: Path) -> None:
    subprocess.run(["make", "zkg"], cwd=DEPLOY.parent, check=True, capture_output=True)
    package, bundle, config = (
        str(DEPLOY.parent / "dist" / "zkg" / "packetclip"),
        tmp_path / "packetclip.bundle",
        tmp_path / "config",
    )
    folders = "".join(f"{name}_dir = {tmp_path / name}\n" for name in ("state", "script", "plugin", "bin"))
    config.write_text(f"[sources]\n[paths]\n{folders}zeek_dist =\n")
    zeek = find_zeek()
    assert zeek is not None
    path = {"PATH": f"{zeek.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def zkg(*command: str) -> str:
        whole = [str(ZKG), "--configfile", str(config), *command]
        ended = subprocess.run(whole, env=path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    zkg("install", "--force", "--skiptests", package)
    zkg("bundle", "--force", str(bundle), "--manifest", package)
    assert bundle.stat().st_size < 1_000_000
    zkg("remove", "--force", "packetclip")
    assert zkg("list") == ""
    zkg("unbundle", "--force", str(bundle))
    assert (tmp_path / "script" / "packetclip" / "packets.zeek").exists()
    zkg("remove", "--force", "packetclip")
    assert not (tmp_path / "script" / "packetclip").exists()


@pytest.mark.skipif(not os.environ.get("PACKETCLIP_SLOW"), reason="downloads the sensor's wheels: PACKETCLIP_SLOW=1")
def test_the_wheel_is_installed_by_hash_as_pipx_does_it(tmp_path: Path) -> None:
    """docs/install.md: pip with the options that pipx passes on, in a virtual environment with nothing in it."""
    root = DEPLOY.parent

    def pip(python: str, *arguments: str) -> None:
        ended = subprocess.run([python, "-m", "pip", "-q", *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr

    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(root))
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True)
    python = str(tmp_path / "empty" / "bin" / "python")
    pip(python, "install", "--upgrade", "pip")  # as pipx does: one of 2023 knows no hashes of constraints
    spec = f"packetclip-sensor @ {wheel.as_uri()}#sha256="
    lock = str(root / "requirements" / "sensor.lock.txt")
    pip(python, "install", "--require-hashes", "--constraint", lock, spec + sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(AssertionError, match="DO NOT MATCH THE HASHES"):
        pip(python, "install", "--force-reinstall", "--require-hashes", "--constraint", lock, spec + "0" * 64)
    packetclip = str(tmp_path / "empty" / "bin" / "packetclip")
    assert "replay" in subprocess.run([packetclip, "--help"], capture_output=True, text=True, check=True).stdout
    logs = [
        packetclip,
        "replay",
        str(root / "tests" / "data" / "demo-dict-patator-ftp"),
        "--out",
        str(tmp_path / "alerts.ndjson"),
    ]
    assert "1 episode" in subprocess.run(logs, capture_output=True, text=True, check=True).stdout
