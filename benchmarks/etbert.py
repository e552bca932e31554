"""The whole sensor against ET-BERT's architecture at full size, in onnxruntime, on the same packets and one core.

    python -m benchmarks.etbert [--packets 32]

Needs the training extra (torch, transformers). The weights are random, which changes no speed: BERT-base with ET-BERT's
65,536 words of two bytes, 128 bytes of each packet. Only its encoder runs; the sensor's side is all, from log line
to document.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.common import CAPTURES, banner, verdict
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.pipeline import replay
from packetclip_sensor.records import Packet

BOUND = 3000.0
TOKENS = 128


def etbert_rate(packets: int) -> float:
    """Packets a second of processor time."""
    import onnxruntime
    import torch
    from transformers import BertConfig, BertModel

    class Encoder(torch.nn.Module):
        """First token's state, as ET-BERT's classifier reads it."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(
                BertConfig(vocab_size=65_541, type_vocab_size=3, attn_implementation="eager"), add_pooling_layer=False
            )

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]

    log = CAPTURES[0] / "packetclip_packet.log.gz"
    rows = msgspec.json.Decoder(Packet).decode_lines(gzip.decompress(log.read_bytes()))[:packets]
    ids = np.zeros((len(rows), TOKENS), np.int64)
    for row, packet in zip(ids, rows, strict=True):
        data = np.frombuffer(packet.data[: TOKENS + 1], np.uint8).astype(np.int64)
        row[: len(data) - 1] = data[:-1] << 8 | data[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        path = Path(work, "etbert.onnx")
        torch.onnx.export(
            Encoder().eval(),
            (torch.from_numpy(ids[:2]),),
            path,
            input_names=["ids"],
            dynamic_axes={"ids": {0: "n"}},
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        session.run(None, {"ids": ids[:1]})
        began = time.process_time()
        for i in range(0, len(ids), 8):
            session.run(None, {"ids": ids[i : i + 8]})
        return len(ids) / (time.process_time() - began)


def sensor_rate() -> float:
    """Packets a second of processor time over all of tests/data, opening the model not counted."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson"))))
        replay([CAPTURES[:1]], config)
        began = time.process_time()
        counters = replay([[folder] for folder in CAPTURES], config)
        return counters.packets / (time.process_time() - began)


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=32, help="packets for ET-BERT, which takes a quarter of a second for each")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    banner("the whole sensor over ET-BERT's encoder")
    ours = sensor_rate()
    theirs = etbert_rate(args.packets)
    print(f"sensor {ours:,.0f} packets/s, ET-BERT's architecture {theirs:.2f} packets/s")
    verdict("sensor over ET-BERT", ours / theirs, BOUND, most=False)


if __name__ == "__main__":
    main()
