"""The journal of evidence: what a mark names comes back, whatever stands behind it."""

from __future__ import annotations

from pathlib import Path

from packetclip_sensor.evidence import journal
from packetclip_sensor.evidence.journal import EvidenceJournal


def test_what_was_appended_comes_back_in_its_order(tmp_path: Path) -> None:
    kept = EvidenceJournal(tmp_path)
    kept.append({"a": b"1", "b": b"1"})
    mark = kept.append({"a": b"2"})
    found = EvidenceJournal(tmp_path).load(mark)
    assert list(found.items()) == [("b", b"1"), ("a", b"2")]


def test_what_no_state_names_is_left_out(tmp_path: Path) -> None:
    kept = EvidenceJournal(tmp_path)
    mark = kept.append({"a": b"1"})
    kept.append({"a": b"2"})  # and then a crash, before state.json was replaced
    again = EvidenceJournal(tmp_path)
    assert again.load(mark) == {"a": b"1"}
    assert EvidenceJournal(tmp_path).load(again.append({"c": b"3"})) == {"a": b"1", "c": b"3"}
    assert EvidenceJournal(tmp_path).load(mark) == {"a": b"1"}, "state.json.old may be all that is left"


def test_a_damaged_journal_is_no_end(tmp_path: Path) -> None:
    mark = EvidenceJournal(tmp_path).append({"a": b"1"})
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"x" * mark.size)
    assert EvidenceJournal(tmp_path).load(mark) == {}
    file.unlink()
    assert EvidenceJournal(tmp_path).load(mark) == {}


def test_a_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    kept, journal_bytes = EvidenceJournal(tmp_path), 0
    for i in range(60):
        mark = kept.append({"a": bytes([i]) * (journal.LEAST_BYTES // 10)})
        journal_bytes = max(journal_bytes, sum(f.stat().st_size for f in tmp_path.iterdir()))
    assert journal_bytes < 3 * journal.LEAST_BYTES
    assert EvidenceJournal(tmp_path).load(mark) == {"a": bytes([59]) * (journal.LEAST_BYTES // 10)}
