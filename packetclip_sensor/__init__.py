"""PacketCLIP sensor: Zeek's packet logs in, few and explained alerts out."""

__version__ = "0.1.0"
