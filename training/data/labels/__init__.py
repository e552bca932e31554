"""Captures with others' labels come in; what `packetclip_sensor.pairs` takes goes out: intervals, flow tables, conn.logs.

One rule holds for all sources: a label that is wrong, unknown or given twice differently is reported with its place, and its
packets stay without a label.
"""
