"""Every table and figure of training/RESULTS.md from a plan of runs: see docs/evaluation.md."""
