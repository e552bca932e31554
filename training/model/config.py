"""Sizes and forms of the model: the struct that encoders, graphs and the whole share, and the settings of ET-BERT."""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from packetclip_sensor.windows.tokens import ROW_BYTES

TEXT_DIM = 384
"""Width of the default text encoder's features."""


class EtBert(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """ET-BERT's architecture; read when `model.encoder` is etbert."""

    checkpoint: Annotated[str | None, Meta(description="file in UER-py's layout; null starts from random weights")] = None
    vocabulary: Annotated[str | None, Meta(description="its vocab file; null numbers all 65,536 words of two bytes")] = None
    layers: Annotated[int, Meta(ge=1, le=48)] = 12
    width: Annotated[int, Meta(ge=8, le=4096, description="hidden size")] = 768
    heads: Annotated[int, Meta(ge=1, le=64)] = 12
    inner: Annotated[int, Meta(ge=8, le=16384, description="width of the feed-forward layer")] = 3072
    positions: Annotated[int, Meta(ge=16, le=4096, description="length of the position table")] = 512
    tokens: Annotated[int, Meta(ge=8, le=512, description="longest input, [CLS] included")] = 128
    skip_bytes: Annotated[
        int, Meta(ge=0, lt=ROW_BYTES, description="bytes left out at the row's start; 24 leaves out what ET-BERT does for IPv4")
    ] = 0
    pooling: Annotated[Literal["first", "mean"], Meta(description="[CLS], or the mean of all tokens but padding")] = "first"
    batch: Annotated[int, Meta(ge=1, description="rows encoded at once when features are computed")] = 64


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
    """patch, or etbert, whose `width` is its hidden size"""
    whiten: bool = False
    """A frozen encoder's features are centred and decorrelated before the packet head."""
    relations: bool = True
    bytes: bool = True
    segments: int = 8
    """Parts that a relation's range is cut into (see Segments); 0 gives the network the plain numbers"""
    message: str = "similarity"
    """How key concepts receive the sensor node: similarity, or product as printed (see MissionGraph)"""
    graph: str = "mission"
    """mission, none (a plain MLP in place of each graph), or shuffled (see `shuffled`)"""
    events: float = 1.0
    """Weight of the texts of attacks beside the graphs (see EventNodes); 0 leaves them out"""
    packets: int | None = None
    """Packets at the window's end that are seen; None is all of them."""

    def as_dict(self) -> dict[str, int | float | str | bool | None]:
        """Plain values for JSON."""
        return asdict(self)
