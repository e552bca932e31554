"""Suricata in Zeek's place: captures come in, logs in the form of the Zeek package's come out.

A package of its own within `sources`, so that nothing else knows how Suricata is started and what its rows look like.
"""
