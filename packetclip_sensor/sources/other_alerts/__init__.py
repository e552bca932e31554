"""Alerts of other engines: rows of Zeek's notice.log and Suricata's eve.json come in, what fired on an episode's hosts goes out.

A package of its own within `sources`, so that nothing else knows what their rows look like; it is off by default.
"""
