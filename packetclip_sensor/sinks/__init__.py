"""Batches of explained alerts come in; documents in Elasticsearch, lines of a file or notices in Zeek go out.

The `write` of each sink is a generator: it yields an `AlertBatch` back once all of it is stored for good. A batch without alerts
passes through. `sleep` is the clock to wait by when nothing can be written, and what it raises ends the waiting; `waiting` is
called with the reason, and with None once writing goes on.
"""
