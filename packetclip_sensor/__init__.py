"""PacketCLIP sensor: Zeek's packet logs in, few and explained alerts out."""

import os

__version__ = "0.1.0"

# onnxruntime 1.31 writes a device id and an event database into the user's cache and sends them to its maker, unless this is set
# before it is first imported (microsoft/onnxruntime pull request 27379). A sensor connects to nothing but its sink.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
