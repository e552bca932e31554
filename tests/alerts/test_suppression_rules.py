"""Rules of suppression: what one may say, what it matches, and what is refused with its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import MISSIONS, packet

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.alerts.suppression_rules import Rule, parse
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Packet


def rule(**keys: object) -> Rule:
    (one,) = parse(json.dumps([{"comment": "why", "expires": "never"} | keys]), "suppress.yaml", MISSIONS)
    return one


def matches(by: Rule, of: Packet) -> bool:
    return by.between(of.orig_h, of.resp_h) and by.serves(of)


@pytest.mark.parametrize(
    ("keys", "suppressed"),
    [
        ({"source": "10.0.0.5"}, True),
        ({"source": "10.0.0.9"}, False),
        ({"source": "10.0.0.0/24", "destination": "10.0.0.9"}, True),
        ({"source": ["192.0.2.1", "10.0.0.0/8"]}, True),
        ({"destination": "10.0.0.5"}, False),
        ({"pair": ["10.0.0.9", "10.0.0.5"]}, True),
        ({"pair": ["10.0.0.9", "10.0.0.6"]}, False),
        ({"service": "80/tcp"}, True),
        ({"service": "80/udp"}, False),
        ({"service": ["443/tcp", "79-81/TCP"]}, True),
        ({"service": "icmp"}, False),
        ({"source": "10.0.0.5", "service": "81/tcp"}, False),
        ({"source": "2001:db8::/32"}, False),
    ],
)
def test_hosts_and_services_are_those_of_the_connection(keys: dict[str, object], suppressed: bool) -> None:
    assert matches(rule(**keys), packet()) is suppressed


def test_a_host_that_is_no_address_is_no_host_of_a_rule() -> None:
    assert not matches(rule(source="10.0.0.0/8"), packet(orig_h="10.0.0.5\n"))
    assert matches(rule(source="fe80::/10"), packet(orig_h="fe80::1"))


@pytest.mark.parametrize(
    ("expires", "last"),
    [
        ("2026-12-31", "2026-12-31T23:59:59+00:00"),
        ('"2026-12-31"', "2026-12-31T23:59:59+00:00"),
        ("2026-12-31T18:00:00", "2026-12-31T17:59:59+00:00"),
        ("2026-12-31T18:00+02:00", "2026-12-31T15:59:59+00:00"),
    ],
)
def test_a_date_holds_to_its_end_and_times_are_utc_without_an_offset(expires: str, last: str) -> None:
    (one,) = parse(f"- {{comment: c, mission: DoS, expires: {expires}}}", "f", MISSIONS)
    second = datetime.fromisoformat(last).timestamp()
    assert one.live(second)
    assert not one.live(second + 1)


GOOD = "comment: c, expires: never"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {expires: never, mission: DoS}", "f:1: lacks a comment; say why this is harmless and who decided so"),
        ("- {comment: ' ', expires: never, mission: DoS}", "f:1: lacks a comment"),
        ("- {comment: c, mission: DoS}", "f:1: lacks expires; write a date, for example expires: 2027-06-30, or expires: never"),
        ("- {comment: c, expires: soon, mission: DoS}", "f:1: expires is no date; write 2027-06-30"),
        ("- {comment: c, expires: 2026-02-31, mission: DoS}", "f: not valid YAML: day is out of range"),
        (f"- {{{GOOD}}}", "f:1: has no condition and would suppress everything; add one of source, destination"),
        (f"- {{{GOOD}, sauce: 10.0.0.1}}", "f:1: sauce: no such key; did you mean source?"),
        (f"- {{{GOOD}, source: !!timestamp office}}", "f: not valid YAML: 'NoneType' object has no attribute"),
        (f"- {{{GOOD}, source: !!int ''}}", "f: not valid YAML: string index out of range"),
        (f"- {{{GOOD}, source: []}}", "f:1: source is empty; name something, or take the key out"),
        (f"- {{{GOOD}, source: office}}", "f:1: 'office' is neither a host nor a network; write 192.0.2.7"),
        (f"- {{{GOOD}, source: 10.0.0.5/8}}", "f:1: 10.0.0.5/8 is a host with a network's length; write 10.0.0.0/8 or 10.0.0.5"),
        (f"- {{{GOOD}, source: 0.0.0.0/0}}", "f:1: 0.0.0.0/0 is every host; leave the key out"),
        (f"- {{{GOOD}, source: 10.0.0.1, destination: '::1'}}", "f:1: never matches: no connection has an IPv4 and an IPv6 end"),
        (f"- {{{GOOD}, pair: [10.0.0.1]}}", "f:1: pair has 1 parts; write pair:"),
        (f"- {{{GOOD}, pair: [10.0.0.1, 10.0.0.1]}}", "f:1: never matches: pair names 10.0.0.1/32 twice"),
        (f"- {{{GOOD}, pair: [10.0.0.1, 10.0.0.2], source: 10.0.0.1}}", "f:1: names pair beside source or destination"),
        (f"- {{{GOOD}, service: ssh}}", "f:1: service is 'ssh'; write 443/tcp, 5000-5100/udp or icmp"),
        (f"- {{{GOOD}, service: 0/tcp}}", "f:1: service '0/tcp' never matches; ports go from 1 to 65535"),
        (f"- {{{GOOD}, service: 90-80/tcp}}", "f:1: service '90-80/tcp' never matches"),
        (f"- {{{GOOD}, mission: dos}}", 'f:1: mission is "dos": no such mission; did you mean DoS?'),
        (f"- {{{GOOD}, class: Benign}}", 'f:1: class is "Benign": no such class'),
        (f"- {{{GOOD}, class: Port Scan, mission: DoS}}", "f:1: never matches: Port Scan is of Reconnaissance, not of DoS"),
        (f"- {GOOD}", "f: not valid YAML"),
        ("mission: DoS", "f: holds .* where a list of rules is expected; begin each rule with `- comment: ...`"),
        ("{2027-01-01: DoS}", "f: holds {datetime.date.* where a list of rules is expected"),
        ("- DoS", 'f:1: holds "DoS" where `key: value` lines are expected'),
        (f"- {{{GOOD}, mission: DoS, mission: DoS}}", "f:1: mission stands twice in this rule"),
        (
            f"- {{{GOOD}, source: 10.0.0.0/8}}\n\n- {{comment: d, expires: 2027-01-01, source: 10.1.0.0/16, mission: DoS}}",
            "f:3: suppresses only what line 1 suppresses already, and no longer; take one of the two out",
        ),
        (f"- {{{GOOD}, mission: DoS}}\n- {{{GOOD}, mission: DoS}}", "f:2: suppresses only what line 1 suppresses already"),
        (f"- {{{GOOD}, class: SYN Flood}}\n- {{{GOOD}, mission: DoS}}", "f:1: suppresses only what line 2 suppresses already"),
        (
            f"- {{{GOOD}, source: 10.0.0.1, destination: 10.0.0.2}}\n- {{{GOOD}, pair: [10.0.0.0/8, 10.0.0.1]}}",
            "f:1: suppresses only what line 2 suppresses already",
        ),
        (f"- {{{GOOD}, service: 80/tcp, mission: DoS}}\n- {{{GOOD}, service: 1-1024/tcp}}", "f:1: suppresses only what line 2"),
    ],
)
def test_a_mistake_is_refused_with_its_line_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace("[", r"\[")):
        parse(text, "f", MISSIONS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none yet\n",
        f"- {{{GOOD}, source: 10.0.0.0/8, mission: DoS}}\n- {{{GOOD}, source: 10.1.0.0/16, service: 80/tcp}}",
        f"- {{comment: c, expires: 2026-01-01, source: 10.0.0.0/8}}\n- {{{GOOD}, source: 10.1.0.0/16}}",
        f"- {{{GOOD}, pair: [10.0.0.1, 10.0.0.2]}}\n- {{{GOOD}, source: 10.0.0.1, mission: DoS}}",
        f"- {{{GOOD}, service: icmp}}\n- {{{GOOD}, source: 10.0.0.1}}",
    ],
)
def test_rules_that_only_overlap_stand_side_by_side(text: str) -> None:
    assert len(parse(text, "f", MISSIONS)) == text.count("- {")


def test_a_rule_keeps_its_name_when_it_is_moved_commented_or_prolonged() -> None:
    before, after = (rule(source="10.0.0.5", expires=e, comment=c) for e, c in (("2026-01-01", "a"), ("never", "b")))
    assert before.id == after.id
    assert before.id != rule(source="10.0.0.6").id


def test_a_proposed_rule_is_read_as_it_stands() -> None:
    hosts = {"source": ["fe80::1", "fe80::2"], "destination": []}
    text = suppression_rules.proposed(1_795_264_920.0, "", **hosts, service=[""], mission=["Brute Force"])
    (one,) = parse(text, "f", MISSIONS)
    assert (one.mission, one.words) == ("Brute Force", "source fe80::1 fe80::2, mission Brute Force")
    assert datetime.fromtimestamp(one.expires, UTC) == datetime(2027, 2, 20, tzinfo=UTC)  # to the end of the 90th day


def test_the_rules_of_the_documentation_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text()
    (example,) = [part.partition("```")[0] for part in page.split("```yaml\n")[1:] if part.startswith("# suppress.yaml")]
    scanner, backup = parse(example, "suppress.yaml", MISSIONS)
    assert (scanner.mission, scanner.words) == ("Reconnaissance", "source 192.0.2.10, mission Reconnaissance")
    assert (len(backup.hosts), len(backup.services)) == (2, 2)
    assert datetime.fromtimestamp(backup.expires, UTC).isoformat() == "2026-12-31T17:00:00+00:00"
