"""In: a profile, a seed and the tables. Out: packet captures of real tools in network namespaces, each with a file of labels.

`python -m training.lab --out lab --seed 1` records the training set (`--profile first`); docs/lab.md describes all profiles.

    table.py        reads and checks tables/*.yaml        expressions.py  the language of the texts in them
    plan.py         hosts, addresses and services of a capture
    attacks.py      draws the attack of a mode            benign.py       draws the benign traffic
    catalogue.py    all captures of a profile             record.py       records one of them
    network.py      namespaces, bridge, links (link.py)   services.py     servers (small_servers.py)
    clients/        acts out benign habits                tools/          attack tools of our own (and slowloris.py)
    card.py         data card of recorded captures        keep.py         recorded captures as test data

What runs inside a namespace (tools/, slowloris.py, small_servers.py, link.py) is started as a file and imports nothing but the
standard library, or what Debian's Python has for the tools that need it.
"""
