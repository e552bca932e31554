"""Sizes of the model: one frozen struct that encoders, graphs and the whole share."""

from __future__ import annotations

from dataclasses import asdict, dataclass

TEXT_DIM = 384
"""Width of the default text encoder's features."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model; saved beside the weights and in the bundle's manifest."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    patch: int = 8
    embedding: int = 64
    graph_width: int = 8
    temporal_heads: int = 8
    temporal_inner: int = 128
    window: int = 30
    encoder: str = "patch"
    """patch, none, or etbert, whose `width` is its hidden size"""
    whiten: bool = False
    """A frozen encoder's features are centred and decorrelated before the packet head."""
    relations: bool = True
    bytes: bool = True
    segments: int = 8
    """Parts that a relation's range is cut into (see Segments); 0 gives the network the plain numbers"""
    message: str = "similarity"
    """How key concepts hear the sensor node: similarity, or product as printed (see MissionGraph)"""
    graph: str = "mission"
    """mission, none (a plain MLP stands for each graph), or shuffled (see `shuffled`)"""
    events: float = 1.0
    """Weight of what the texts of attacks say of a window beside the graphs (see EventNodes); 0 leaves it out"""
    packets: int | None = None
    """Packets at the window's end that are seen; None is all of them."""

    def as_dict(self) -> dict[str, int | float | str | bool | None]:
        """Plain values for JSON."""
        return asdict(self)
