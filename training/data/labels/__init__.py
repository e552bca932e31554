"""Labels that others give to captures, brought to what `packetclip_sensor.pairs` takes: intervals, flow tables, conn.logs.

One rule holds for all sources: a label that is wrong, unknown or told twice differently is reported with its place, and the
packets it is about stay without a label.
"""
