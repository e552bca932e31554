"""Alerts of other engines: what their rows say, which of them belong to an episode, and that nothing depends on them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from factories import T0, episode

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import OtherAlert
from packetclip_sensor.sources.other_alerts import recent, rows
from packetclip_sensor.sources.other_alerts.recent import RecentAlerts

DATA = Path(__file__).parents[1] / "data"
EVE = (
    b'{"timestamp":"2026-11-21T12:42:00.411880+0000","flow_id":1471195472926209,"event_type":"alert","src_ip":"172.25.134.234",'
    b'"src_port":2021,"dest_ip":"172.25.134.222","dest_port":52550,"proto":"TCP","community_id":"1:zfO=","alert":{"gid":1,'
    b'"signature_id":1000001,"rev":3,"signature":"TEST FTP 530 login refused"},"direction":"to_client","flow":{"pkts_toserver":5,'
    b'"src_ip":"172.25.134.222","dest_ip":"172.25.134.234","src_port":52550,"dest_port":2021}}'
)
"""As Suricata 7.0.10 wrote it over demo-dict-patator-ftp, of an answer."""
NOTICE = (
    b'{"ts":1795264927.036216,"uid":"CoQCl7435od6wgx2cj","id.orig_h":"172.25.134.222","id.orig_p":52550,"id.resp_h":'
    b'"172.25.134.234","id.resp_p":2021,"proto":"tcp","note":"FTP::Refused","msg":"refused a password","src":"172.25.134.222"}'
)
OF_A_HOST = (
    b'{"ts":1795264920.420522,"note":"FTP::Bruteforcing","msg":"172.25.134.222 had 3 failed logins on 1 FTP server in 0m0s",'
    b'"src":"172.25.134.222"}'
)
"""As Zeek 8.0.6 wrote them."""


def fired(**changed: Any) -> OtherAlert:
    fields: dict[str, Any] = {
        "ts": T0, "engine": "Suricata", "rule": "1", "name": "n", "orig_h": "10.0.0.5", "orig_p": 1, "resp_h": "10.0.0.9",
        "resp_p": 80, "proto": "tcp",
    }  # fmt: skip
    return OtherAlert(**(fields | changed))


def test_a_row_says_who_began_the_connection_and_what_fired() -> None:
    eve, notice, of_a_host = map(rows.row, (EVE, NOTICE, OF_A_HOST))
    assert eve
    assert notice
    assert of_a_host
    assert (eve.engine, eve.rule, eve.name) == ("Suricata", "1000001", "TEST FTP 530 login refused")
    assert (eve.orig_h, eve.orig_p, eve.resp_h, eve.resp_p, eve.proto) == ("172.25.134.222", 52550, "172.25.134.234", 2021, "tcp")
    assert (eve.ts, eve.community_id) == (1795264920.41188, "1:zfO=")
    assert (notice.engine, notice.rule, notice.uid, notice.resp_p) == ("Zeek", "FTP::Refused", "CoQCl7435od6wgx2cj", 2021)
    assert (of_a_host.orig_h, of_a_host.resp_h, of_a_host.proto) == ("172.25.134.222", "", "")
    iso = rows.row(NOTICE.replace(b"1795264927.036216", b'"2026-11-21T12:42:07.036216Z"'))
    assert iso
    assert iso.ts == notice.ts


@pytest.mark.parametrize(
    "line",
    [
        EVE.replace(b'"event_type":"alert"', b'"event_type":"flow"'),
        NOTICE.replace(b"FTP::Refused", b"PacketCLIP::Brute_Force"),
        b'{"ts":1.5,"note":"Weird::Activity","msg":"of nobody"}',
    ],
)
def test_other_events_and_our_own_notices_are_passed_over(line: bytes) -> None:
    assert rows.row(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b'{"ts":1.5}',
        EVE.replace(b"2021,", b"99999,"),
        EVE[:200],
        b'{"note":"a","ts":"b"}',
        b"\xff",
        NOTICE.replace(b"1795264927.036216", b"1e400"),
        b"[" * 5000,
    ],
)
def test_a_bad_line_is_counted_and_ends_nothing(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "notice.log").write_bytes(line + b"\n" + NOTICE + b"\n")
    counters = Counters()
    recent.finished([tmp_path], counters)
    assert (counters.other_alerts, counters.other_alerts_unread) == (1, 1)


def test_a_name_without_end_is_cut() -> None:
    for line, name in ((EVE, b"TEST FTP 530 login refused"), (NOTICE, b"refused a password")):
        found = rows.row(line.replace(name, b"x" * 100_000))
        assert found is not None
        assert len(found.name) == 200


@pytest.mark.parametrize(
    ("scope", "row", "named"),
    [
        ("pair", {}, True),
        ("pair", {"resp_h": "10.0.0.8"}, False),
        ("pair", {"orig_h": "10.0.0.9", "resp_h": "10.0.0.5"}, False),
        ("pair", {"resp_h": ""}, True),
        ("pair", {"ts": T0 + 60}, False),
        ("pair", {"ts": T0 - 60}, False),
        ("source", {"resp_h": "10.0.0.8"}, True),
        ("source", {"orig_h": "10.0.0.8", "resp_h": "10.0.0.5"}, False),
        ("destination", {"orig_h": "10.0.0.8"}, True),
        ("destination", {"resp_h": ""}, False),
        ("many", {}, False),
    ],
)
def test_a_row_belongs_to_an_episode_of_its_hosts_and_time(scope: str, row: dict[str, Any], named: bool) -> None:
    known = RecentAlerts(Counters())
    known.add(fired(**row))
    assert bool(known.of(episode(scope=scope))) is named


def test_a_rule_is_named_once_and_the_most_frequent_first() -> None:
    known = RecentAlerts(Counters())
    for second, rule in enumerate(("1", "2", "2")):
        known.add(fired(rule=rule, ts=T0 + second))
    assert [(f.row.rule, f.count, f.first, f.last) for f in known.of(episode())] == [("2", 2, T0 + 1, T0 + 2), ("1", 1, T0, T0)]
    known.add(fired(rule="1", ts=T0 + 3))
    assert known.of(episode())[1].count == 2


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    counters = Counters()
    known = RecentAlerts(counters, most=10)
    for n in range(100):
        known.add(fired(orig_h=f"10.1.0.{n}", resp_h=f"10.1.0.{n}" if n % 2 else "10.0.0.9"))
    assert (len(known._entries), counters.other_alerts, counters.other_alerts_forgotten) == (10, 100, 90)
    assert set(known._of) == {f"10.1.0.{n}" for n in range(90, 100)} | {"10.0.0.9"}
    for _ in range(1000):
        known.add(fired(orig_h="10.1.0.99"))
    assert counters.other_alerts_forgotten == 91


def until(true: Any) -> bool:
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(true())


def test_growing_and_rotated_logs_are_followed(tmp_path: Path) -> None:
    counters, log = Counters(), tmp_path / "notice.log"
    log.write_bytes(NOTICE + b"\n")
    with recent.followed([tmp_path], counters) as known:
        assert known is not None
        assert until(lambda: counters.other_alerts == 1)
        log.rename(tmp_path / "notice-26-11-21.log")
        log.write_bytes(OF_A_HOST + b"\n" + NOTICE + b"\n")
        (tmp_path / "eve.json").write_bytes(EVE + b"\n")
        assert until(lambda: counters.other_alerts == 4)


def test_of_a_long_log_the_last_part_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "UNREAD_BYTES", 1000)
    counters = Counters()
    (tmp_path / "eve.json").write_bytes((EVE + b"\n") * 1000)
    with recent.followed([tmp_path / "eve.json"], counters):
        assert until(lambda: counters.other_alerts == 1000 // len(EVE + b"\n"))


def test_it_is_off_by_default(tmp_path: Path) -> None:
    with recent.followed((), Counters()) as known:
        assert known is None
    assert recent.finished((), Counters()) is None


def test_what_cannot_be_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "notice.log").write_text("#separator \\x09\n")
    with pytest.raises(ConfigError, match=r"notice.log: is a TSV log; JSON is read: `redef LogAscii::use_json = T;`"), \
            recent.followed([tmp_path], Counters()):  # fmt: skip
        pass
    with pytest.raises(LogFormatError, match="does not exist"):
        recent.finished([tmp_path / "eve.json"], Counters())
    (tmp_path / "notice.log").write_text("")
    assert recent.finished([tmp_path], Counters()) is not None


def test_an_alert_names_what_fired_on_its_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "eve.json").write_bytes((EVE + b"\n") * 3)
    (tmp_path / "notice.log").write_bytes(NOTICE.replace(b"refused a password", b"\\u001b[31mred") + b"\n")
    asked = ["replay", str(DATA / "demo-dict-patator-ftp" / "packetclip_packet.log.gz"), "--out", str(tmp_path / "alerts.ndjson")]
    assert main([*asked, "--other-alerts", str(tmp_path)]) == 0
    last = json.loads((tmp_path / "alerts.ndjson").read_text().splitlines()[-1])
    named = last["packetclip"]["other_alerts"]
    assert [(n["engine"], n["rule"], n["count"]) for n in named] == [("Suricata", "1000001", 3), ("Zeek", "FTP::Refused", 1)]
    assert last["event"]["reason"].endswith("Suricata 1000001 and Zeek FTP::Refused fired on these hosts meanwhile.")
    assert named[1]["community_id"] in last["network"]["community_id"]
    capsys.readouterr()
    assert main(["explain", last["event"]["id"], "--from", str(tmp_path / "alerts.ndjson")]) == 0
    out = capsys.readouterr().out
    assert "Suricata 1000001 TEST FTP 530 login refused (3 times); Zeek FTP::Refused" in out
    assert "\x1b" not in out
