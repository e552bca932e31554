"""Records labelled traffic of all classes: real services, real clients and real attack tools in network namespaces.

`python -m training.lab --out lab --seed 1` records the training set (`--profile first`); docs/lab.md tells of the other profiles.
The plan of all captures is drawn from the seed before anything runs, so that a capture can be recorded again by its name.
"""
