"""What flow rows add to a stream's evidence: each count once, from a fixed time on, whatever batches and restarts were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.evidence import flow_counts
from packetclip_sensor.evidence.flow_counts import COUNTS, FLOWS, FlowCounts
from packetclip_sensor.evidence.streams import Streams, input_names
from packetclip_sensor.records import Flow
from tests.evidence.test_evidence import rows
from tests.support.factories import MISSIONS, flow

NAMES = input_names(len(MISSIONS))
ENDS = {"orig_h": "192.0.2.1", "resp_h": "192.0.2.9", "proto": "tcp", "conn_state": "SF"}


def login(uid: str, ts: float, *, failed: int = 1, attempts: int = 1, resp_bytes: int = 90, **changed: Any) -> Flow:
    counts = {"login_attempts": attempts, "login_failures": failed, "resp_bytes": resp_bytes, "orig_bytes": 60}
    return flow(**ENDS | counts | {"uid": uid, "ts": ts, "duration": 1.0, "final": True} | changed)


def value(counted: flow_counts.Counted, name: str) -> float:
    return counted.values[FLOWS.index(name)]


def taken(flows: Sequence[Flow]) -> list[flow_counts.Counted]:
    found = FlowCounts(Counters())
    found.take(flows)
    return found.until(1e12)


def test_counts_of_one_connection_are_taken_once_over_its_interim_rows() -> None:
    interim = login("C1", 1000.0, failed=3, attempts=3, final=False)
    found = taken([interim, login("C1", 1000.0, failed=10, attempts=11, duration=60.0)])
    assert [value(c, "login_failures") for c in found] == [3, 7]
    assert sum(value(c, "login_attempts") for c in found) == 11
    assert [value(c, "flows") for c in found] == [0, 1]


@pytest.mark.parametrize(
    ("changed", "after_s"),
    [({}, 16.0), ({"conn_state": "S1"}, 316.0), ({"proto": "udp"}, 76.0), ({"proto": "udp", "service": "dns"}, 26.0)],
)
def test_a_row_counts_from_when_zeek_must_have_written_it(changed: dict[str, Any], after_s: float) -> None:
    found = FlowCounts(Counters())
    found.take([login("C1", 1000.0, **changed)])
    assert found.until(1000 + after_s) == []
    assert len(found.until(1000 + after_s + 0.1)) == 1


@pytest.mark.parametrize(("newest", "after_s"), [(1200.0, 215.0), (5e9, 315.0)])
def test_a_row_counts_no_earlier_than_rows_before_it_in_the_log_but_a_wrong_time_holds_none_for_ever(
    newest: float, after_s: float
) -> None:
    """Zeek keeps some closed connections until their timeout; the rows before say so."""
    found = FlowCounts(Counters())
    found.take([login("C1", newest - 1), login("C2", 1000.0 - 1)])
    restored = FlowCounts(Counters())
    restored.restore(found.state())
    restored.take([login("C3", 1000.0 - 1)])
    early = restored.until(1000 + after_s - 0.1)
    assert {c.uid for c in early} <= {"C1"}
    assert {c.uid for c in restored.until(1000 + after_s + 0.1)} - {"C1"} == {"C2", "C3"}


@pytest.mark.parametrize(
    ("changed", "after_s"),
    [
        ({}, 76.0), ({"conn_state": "S0", "resp_pkts": 0}, 76.0), ({"conn_state": "S1"}, 616.0),
        ({"proto": "udp"}, 316.0), ({"proto": "udp", "resp_pkts": 0}, 46.0),
    ],
)  # fmt: skip
def test_a_row_of_suricata_counts_from_its_flows_timeout_whatever_came_before(changed: dict[str, Any], after_s: float) -> None:
    found = FlowCounts(Counters())
    found.take([login("1", 3000.0), login("2", 1000.0, **{"resp_pkts": 5} | changed)])
    assert found.until(1000 + after_s) == []
    assert [c.uid for c in found.until(1000 + after_s + 0.1)] == ["2"]


@pytest.mark.parametrize(
    ("changed", "sent"),
    [
        ({"resp_pkts": 4, "resp_ip_bytes": 4 * 52 + 8}, 0.0),
        ({"resp_pkts": 4, "resp_ip_bytes": 4 * 52 + 8 + 100}, 100.0),
        ({"resp_pkts": 4, "resp_ip_bytes": 4 * 72 + 8 + 100, "orig_h": "2001:db8::1"}, 100.0),
        ({"resp_pkts": 4, "resp_ip_bytes": 4 * 40 + 4 + 20, "service": "ftp"}, 1.0),
    ],
)
def test_data_that_suricata_does_not_count_are_its_ip_bytes_less_headers(changed: dict[str, Any], sent: float) -> None:
    (one,) = taken([flow(**ENDS | {"uid": "1", "ts": 1000.0, "duration": 1.0} | changed)])
    assert value(one, "unanswered") == (sent == 0)
    assert value(one, "data") == (sent > 0)
    assert value(one, "resp_bytes") == pytest.approx(math.log1p(sent))


def test_a_row_that_comes_too_late_is_counted_and_says_so() -> None:
    counters = Counters()
    found = FlowCounts(counters)
    found.until(2000.0)
    found.take([login("C1", 1000.0)])
    assert len(found.until(2001.0)) == 1
    assert counters.evidence_late_flows == 1


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_counts, "MOST_HELD", 2)
    monkeypatch.setattr(flow_counts, "MOST_KNOWN", 1)
    found = FlowCounts(Counters())
    found.take([login(f"C{i}", 1000.0 + i) for i in range(5)])
    assert [c.uid for c in found.until(0.0)] == ["C0", "C1", "C2"]


def test_what_a_stream_is_follows_from_its_rows_and_not_from_batches_or_a_restart() -> None:
    logins = [login(f"C{i}", 1000.0 + 4 * i, resp_bytes=90 + i) for i in range(8)]
    seconds = [1000 + 4 * i for i in range(12)]
    together, apart = Streams(len(MISSIONS), Counters()), Streams(len(MISSIONS), Counters())
    flows = FlowCounts(Counters())
    flows.take(logins)
    whole, _ = together("", rows(seconds), flows.until(seconds[-1]))
    flows, parts = FlowCounts(Counters()), []
    flows.take(logins)
    for second in seconds:
        saved, flows = flows.state(), FlowCounts(Counters())
        flows.restore(saved)
        parts.append(apart("", rows([second]), flows.until(second))[0])
    assert np.array_equal(np.concatenate(parts), whole)
    failures, share = (whole[:, NAMES.index(name)] for name in ("flow login_failures 3600s", "flow failed 600s"))
    assert failures[4] == 0 < failures[5]
    assert share[-1] == pytest.approx(1.0, abs=0.02)
    assert whole[-1, NAMES.index("flow orig_bytes spread 600s")] == pytest.approx(0, abs=1e-3)
    assert whole[-1, NAMES.index("flow resp_bytes spread 600s")] > 0.005


def test_a_column_that_zeek_left_unset_counts_nothing() -> None:
    unseen = login("C1", 1000.0, **dict.fromkeys(COUNTS))
    assert all(value(taken([unseen])[0], name) == 0 for name in COUNTS)
