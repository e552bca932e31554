"""Where alerts go. Each sink is a generator: it yields a `Safe` back once everything in it is stored for good."""
