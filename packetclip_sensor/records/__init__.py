"""The typed records that travel from stage to stage, in the order in which they appear on the way: read, judged, reported.

Names inside are Zeek's (`uid`, `orig_h`, `conn_state`); only `documents.py` knows ECS.
"""

# ruff: noqa: I001
# fmt: off
from packetclip_sensor.records.alerts import (
    SURE_FROM, TALLIES, Alert, AlertBatch, Episode, EpisodeBatch, Event, Fired, OtherAlert, Totals,
)
from packetclip_sensor.records.judged import (
    Attribution, Concept, Decided, Evidence, Explanation, FloatArray, HuntWindow, Path, Trail, Verdict, VerdictBatch,
)
from packetclip_sensor.records.read import (
    Batch, Count, Flow, Idle, Lines, Name, Packet, Port, Position, Time, is_eve, log_of, of_suricata,
)

__all__ = [
    "SURE_FROM", "TALLIES", "Alert", "AlertBatch", "Attribution", "Batch", "Concept", "Count", "Decided",
    "Episode", "EpisodeBatch", "Event", "Evidence", "Explanation", "Fired", "FloatArray", "Flow", "HuntWindow", "Idle", "Lines",
    "Name", "OtherAlert", "Packet", "Path", "Port", "Position", "Time", "Totals", "Trail", "Verdict", "VerdictBatch",
    "is_eve", "log_of", "of_suricata",
]
