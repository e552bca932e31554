"""The report in a real browser: no script of an attacker runs, nothing is asked from anywhere, and it can be worked with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from factories import MISSIONS, SENSOR, T0, alert, episode, every_text, flow, packet
from machine import unavailable, until

from packetclip_sensor.common.resources import resource
from packetclip_sensor.records import Evidence
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.view import report
from packetclip_sensor.view.next_steps.capture import capture
from packetclip_sensor.view.next_steps.queries import steps

MODEL = resource("model/shipped")

OWN = "document.title='owned'"
HOSTILE = f'"\'></script><script>{OWN}</script><img src=x onerror="{OWN}"><svg onload="{OWN}">javascript:{OWN}'
SYN = bytes.fromhex("4500003c1c4640004006b1e60a0000050a0000099c400050000000010000000060020000000000000204")


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    if browser.program() is None:
        unavailable("no chromium on PATH")
    with browser.Browser() as one:
        yield one


def some() -> list[dict[str, Any]]:
    """Three episodes, one of each mission, ten seconds apart."""
    evidence = (Evidence(packet(data=SYN), 0.12, "SYN to port 80"),)
    return [
        document(
            alert(
                mission=mission,
                episode=episode(id=f"ep{n}", mission=mission, packets=10 * (3 - n), first=T0 + 10 * n),
                evidence=evidence,
                flow=flow(),
            ),
            SENSOR,
        )
        for n, mission in enumerate(MISSIONS.names)
    ]


def opened(chromium: browser.Browser, folder: Path, documents: list[dict[str, Any]], fragment: str = "") -> None:
    page = folder / "report.html"
    page.write_text(report.page(documents, title="Untouched", model=MODEL), encoding="utf-8")
    chromium.complaints.clear()
    chromium.open(page, fragment)
    assert chromium.requests == [page.as_uri()]


def test_a_browser_runs_nothing_of_what_stands_in_alerts(chromium: browser.Browser, tmp_path: Path) -> None:
    whole = document(alert(flow=flow(), flow_text="x", evidence=(Evidence(packet(data=SYN), 0.1, "x"),)), SENSOR)
    spoiled = every_text(whole, HOSTILE)
    spoiled["packetclip"]["evidence"][0]["data"] = HOSTILE.encode().hex()
    spoiled["packetclip"]["missions"][HOSTILE] = 0.5
    opened(chromium, tmp_path, [spoiled])
    chromium.wait("!!document.querySelector('.detail .hex')")
    assert chromium.run("document.title") == "Untouched"
    assert chromium.run("document.querySelectorAll('img, iframe, object, [onload], [onerror]').length") == 0
    assert chromium.run("document.querySelectorAll('script').length") == 3
    assert chromium.run("[...document.querySelectorAll('a')].every(a => a.href.startsWith('http'))")
    assert HOSTILE in chromium.run("document.querySelector('.detail').textContent")
    assert chromium.complaints == []


def test_even_markup_that_got_in_would_not_run(chromium: browser.Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path, some())
    assert (
        chromium.run("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'made' } catch (e) { return e.name } })()")
        == "TypeError"
    )
    chromium.run(
        "(() => { const s = document.createElement('img'); s.src = 'https://example.org/x.png'; document.body.append(s) })()"
    )
    chromium.wait("document.images.length === 1")
    assert chromium.blocked == ["https://example.org/x.png"]
    assert any("Content Security Policy" in said for said in chromium.complaints)


def test_the_page_is_drawn_without_a_complaint_and_no_probability_as_certainty(chromium: browser.Browser, tmp_path: Path) -> None:
    sure = some()
    for one in sure:
        one["packetclip"]["probability"] = one["packetclip"]["episode"]["peak"] = 0.999977
        one["packetclip"]["missions"] = {"dos": 0.999977}
        one["packetclip"]["classes"] = [{"name": "SYN Flood", "probability": 1.0}]
    opened(chromium, tmp_path, sure, "open=e1")
    chromium.wait("!!document.querySelector('.detail .graph')")
    assert chromium.run("document.querySelectorAll('#timeline .bar').length") == 3
    assert chromium.run("document.querySelectorAll('.detail .graph .node').length") >= 4
    assert chromium.run("getComputedStyle(document.querySelector('.bars .track div')).width") != "0px"
    assert chromium.run(
        "[...document.querySelectorAll('.fields td:nth-child(2)')].map(td => td.textContent).slice(0, 3).join()"
    ) == ("version, header length,DSCP, ECN,total length")
    assert "0.999" in chromium.run("document.body.innerText")
    assert "1.000" not in chromium.run("document.body.innerText")
    picture = tmp_path / "page.png"
    chromium.picture(picture)
    assert picture.stat().st_size > 20_000  # an unstyled or empty page is far smaller
    assert chromium.complaints == []


def click(chromium: browser.Browser, words: str) -> None:
    """Click a button of an open episode as a person does, so that the browser lets the page copy and save."""
    button = f"[...document.querySelectorAll('.detail button')].find(b => b.textContent === '{words}')"
    chromium.run(f"{button}.scrollIntoView({{block: 'center'}})")
    x, y = chromium.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({button}.getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        chromium.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@pytest.mark.parametrize("clipboard", ["navigator.clipboard", "undefined"])
def test_next_steps_are_copied_and_the_evidence_is_saved(chromium: browser.Browser, tmp_path: Path, clipboard: str) -> None:
    """Also where the page has no clipboard, as from a server without TLS: then the selection is copied."""
    documents = some()
    opened(chromium, tmp_path, documents, "open=ep1")
    chromium.wait("!!document.querySelector('.detail .step')")
    chromium.run(f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}}})")
    chromium.run("addEventListener('copy', () => { window.copied = String(getSelection()) })")
    assert chromium.run("[...document.querySelectorAll('.step pre')].map(pre => pre.textContent)") == [
        step.text for step in steps(documents[1])
    ]
    chromium.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    click(chromium, "Copy")
    chromium.wait("!!document.querySelector('.step button').textContent.match('Copied')")
    copied = "window.copied" if clipboard == "undefined" else "navigator.clipboard.readText()"
    assert chromium.run(copied) == steps(documents[1])[0].text
    chromium.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    click(chromium, "Save as a capture (pcapng)")
    saved = tmp_path / "ep1.pcapng"
    until(saved.exists, 30)
    assert saved.read_bytes() == capture(documents[1])
    assert chromium.complaints == []


def lines(chromium: browser.Browser) -> list[str]:
    found: list[str] = chromium.run("[...document.querySelectorAll('.line .badge')].map(node => node.textContent)")
    return found


def test_the_table_sorts_filters_and_opens(chromium: browser.Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path, some())
    assert lines(chromium) == list(reversed(MISSIONS.names))  # the newest first, as everywhere
    for clicked, order in (
        ("[data-sort=first]", list(MISSIONS.names)),
        ("[data-sort=packets]", list(MISSIONS.names)),
        ("[data-sort=packets]", list(reversed(MISSIONS.names))),
        ("[name=mission][value=DoS]", ["Brute Force", "Reconnaissance"]),
    ):
        chromium.run(f"document.querySelector('{clicked}').click()")
        assert lines(chromium) == order
    chromium.type("#find", "EP1")
    assert lines(chromium) == ["Reconnaissance"]
    assert chromium.run("document.getElementById('said').textContent") == "1 of 3 episodes"
    chromium.run("document.querySelector('.open').click()")
    chromium.wait("!!document.querySelector('.detail h2')")
    chromium.run("document.querySelector('.open').click()")
    assert chromium.run("document.querySelectorAll('.detail').length") == 0
    chromium.run("document.querySelector('[type=reset]').click()")
    chromium.wait("document.querySelectorAll('.line').length === 3")


def test_a_view_can_be_bookmarked(chromium: browser.Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path, some(), "sort=packets&down=0&find=brute&open=ep2")
    assert lines(chromium) == ["Brute Force"]
    chromium.wait("!!document.querySelector('.detail h2')")
    opened(chromium, tmp_path, some(), "find=nothing+has+this&open=ep2")
    assert lines(chromium) == list(reversed(MISSIONS.names))  # what is asked for is shown, whatever the filter
    opened(chromium, tmp_path, some(), "sort=first")
    assert lines(chromium) == list(MISSIONS.names)


def test_without_scripts_the_episodes_are_listed(chromium: browser.Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report.page(some(), title="Untouched", model=MODEL), encoding="utf-8")
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.call("Page.navigate", url=page.as_uri())
        chromium.wait("document.querySelectorAll('noscript tr').length === 3")
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_phone_cuts_neither_graph_nor_bytes(tmp_path: Path) -> None:
    if browser.program() is None:
        unavailable("no chromium on PATH")
    with browser.Browser(width=360, height=740) as phone:
        opened(phone, tmp_path, some()[:1])
        phone.wait("!!document.querySelector('.detail .hex')")
        phone.run("document.querySelectorAll('details').forEach(part => part.open = true)")
        for part in (".graph", ".hex", ".fields", ".bars", ".facts", "figcaption"):
            extent = "[e.getBoundingClientRect().right, e.scrollWidth - e.clientWidth]"
            for right, hidden in phone.run(f"[...document.querySelectorAll('{part}')].map(e => {extent})"):
                assert right <= 360, part
                assert part == ".graph" or hidden <= 0, part
        assert phone.run("document.querySelectorAll('.graph').length") > 0
        assert phone.run("document.documentElement.scrollWidth") <= 360
        phone.picture(tmp_path / "phone.png")
