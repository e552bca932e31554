"""A plan of runs and captures that they do not train on come in; every table and figure of RESULTS.md goes out."""
