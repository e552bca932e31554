"""Bytes in, records out: following and reading log files, decoding their lines, running Zeek over captures."""
