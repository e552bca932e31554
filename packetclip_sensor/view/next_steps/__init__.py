"""An alert document comes in; what an analyst does next goes out: a capture, queries, a rule, and what was seen before."""
