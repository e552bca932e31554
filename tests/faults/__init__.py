"""The sensor against real servers that fail: kills, rotations, a cluster that is away, busy or lies. `python -m tests.faults`."""
