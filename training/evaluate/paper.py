"""The paper's own figures, on its own data (ACI-IoT-2023, split not stated), to stand beside ours. They are not comparable.

Source: PacketCLIP, arXiv 2503.03747v1: Table I, Table II, section IV-G and figure 7 (read off the text: "~").
"""

from collections.abc import Sequence

PAPER = "*paper, on its data:* "
"""Before a row of the paper's."""

TABLE_I = {
    "ET-BERT": (0.730, None),
    "no head": (0.001, 0.955),
    "head on packets": (0.831, 0.991),
    "heads on both": (0.856, 0.961),
}
"""Top-1 and top-5 by method."""

TABLE_II = {
    "ET-BERT, fine-tuned": (0.717, 0.731, 0.752, 0.784, 0.746),
    "PacketCLIP + XGBoost": (0.522, 0.500, 0.477, 0.458, 0.489),
    "PacketCLIP + LightGBM": (0.961, 0.544, 0.974, 0.567, 0.761),
    "PacketCLIP + DNN": (0.978, 0.724, 0.996, 0.623, 0.830),
    "PacketCLIP + GNN reasoning": (0.996, 0.930, 0.999, 0.909, 0.946),
}
"""AUC of TABLE_II_GROUPS, and their mean as printed (rows of the paper round by themselves)."""
TABLE_II_GROUPS = ("Benign", "DoS", "Reconnaissance", "Brute Force")


def table_ii(name: str, groups: Sequence[str]) -> list[str]:
    """A row of Table II: the AUC of each of our groups, none for one that the paper does not have, and the mean."""
    *values, mean = TABLE_II[name]
    of = dict(zip(TABLE_II_GROUPS, values, strict=True))
    return [*(f"{of[g]:.3f}" if g in of else "–" for g in groups), f"{mean:.3f}"]


SCARCE = {100: (0.95, 0.70), 30: (0.95, 0.50)}
"""Percent of training data to mean AUC of PacketCLIP and of ET-BERT, both "~" in the paper."""
