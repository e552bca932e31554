"""Where alerts go. Each sink is a generator: it yields a `AlertBatch` back once everything in it is stored for good."""
