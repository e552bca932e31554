"""The profile `servers`: web servers of three kinds, each with the same content, and no change to the other profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.lab.benign import mixed
from training.lab.catalogue import captures
from training.lab.plan import Capture, Service
from training.lab.web_servers import SOFTWARE


def web(capture: Capture) -> Service:
    return next(service for service in capture.host("web").services if service.name == "http")


def test_every_kind_of_server_is_drawn_and_drawn_again_alike() -> None:
    every = [*captures("servers", 1), *mixed("servers", 1)]
    assert {web(capture).options["software"] for capture in every} == SOFTWARE.keys()
    assert every == [*captures("servers", 1), *mixed("servers", 1)]
    attacked = {capture.attacks[0].label for capture in every if capture.attacks}
    assert attacked == {"Slowloris", "Vulnerability Scan"}


@pytest.mark.parametrize("profile", ["first", "breadth", "demo", "unseen"])
def test_other_profiles_keep_their_server(profile: str) -> None:
    assert all("software" not in web(capture).options for capture in captures(profile, 1))


@pytest.mark.parametrize("software", SOFTWARE)
def test_a_configuration_names_port_content_accounts_and_patience(software: str, tmp_path: Path) -> None:
    root, shared = tmp_path / "www", tmp_path / "shared"
    command = SOFTWARE[software](tmp_path, root, shared, 8123, {"patience": 7, "connections": 256, "keepalive": 9})
    written = (tmp_path / f"{software}.conf").read_text()
    assert any(f"{software}.conf" in word for word in command)
    for part in ("8123", "443", str(root), f"{tmp_path}/htpasswd", f"{shared}/tls.key", "7", "256", "9"):
        assert part in written, part
