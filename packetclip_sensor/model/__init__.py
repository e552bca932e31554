"""Windows come in as arrays; batches of verdicts go out: the bundle's encoder and reasoner judge each window against each
mission's threshold."""
