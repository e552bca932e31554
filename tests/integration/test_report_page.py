"""The report in a real browser: no script of an attacker runs, and what the page shows can be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from factories import SENSOR, alert, flow, packet

from packetclip_sensor import report
from packetclip_sensor.documents import document
from packetclip_sensor.records import Evidence

OWN = "document.title='owned'"
HOSTILE = f'"\'><script>{OWN}</script><img src=x onerror="{OWN}"><svg onload="{OWN}">'
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip


def browse(page: Path, profile: Path, *what: str) -> subprocess.CompletedProcess[str]:
    """Open a page in headless Chromium; skips where there is none, and fails in CI."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium on PATH, and CI is set")
        pytest.skip("no chromium on PATH")
    command = [program, *FLAGS, f"--user-data-dir={profile}", *what, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def hostile(value: object) -> object:
    match value:
        case dict():
            return {key: hostile(part) for key, part in value.items()}
        case list():
            return [hostile(part) for part in value]
        case str():
            return HOSTILE
    return value


def test_a_browser_runs_nothing_of_what_stands_in_alerts(tmp_path: Path) -> None:
    whole = document(alert(flow=flow(), flow_text="x", evidence=(Evidence(packet(), 0.1, "x"),)), SENSOR)
    page = tmp_path / "report.html"
    page.write_text(report.page([hostile(whole)], title="Untouched"), encoding="utf-8")  # type: ignore[list-item]
    seen = browse(page, tmp_path / "profile", "--dump-dom").stdout
    assert "<title>Untouched</title>" in seen
    assert "<script" not in seen
    assert "&lt;script&gt;document.title='owned'" in seen


def test_the_page_is_drawn_with_its_style_and_breaks_its_own_policy_nowhere(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report.page([document(alert(flow=flow()), SENSOR)], title="Alerts"), encoding="utf-8")
    picture = tmp_path / "page.png"
    done = browse(page, tmp_path / "profile", "--window-size=800,1200", f"--screenshot={picture}")
    assert picture.stat().st_size > 20_000  # an unstyled or empty page is far smaller
    assert "Content Security Policy" not in done.stderr
    assert "CONSOLE" not in done.stderr
