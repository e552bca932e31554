"""A store of results comes in; RESULTS.md and its figures go out."""
