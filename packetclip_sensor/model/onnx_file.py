"""Finds in an ONNX file what would make onnxruntime read other files: tensors whose data lie outside.

A bundle's files are known by their hashes; a file that names another one, by any path, is not, and would be read with the
sensor's rights. Only the few messages on the way to tensors are walked through, so no package for ONNX is needed.

Source: onnx 1.23, onnx/onnx.proto3; protobuf's wire format, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Messages by the field numbers that lead from one to the next."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
DEEPEST = 64


def names_other_files(content: bytes) -> bool:
    """Whether a tensor of the model says that its data are in another file.

    Raises:
        ValueError: it is no protobuf message, or one that is nested too deeply.
    """
    left = [("model", memoryview(content), 0)]
    while left:
        kind, message, depth = left.pop()
        if depth > DEEPEST:
            raise ValueError("its graphs are nested too deeply")
        for number, value in _fields(message):
            if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
                return True
            if (inner := INSIDE[kind].get(number)) and isinstance(value, memoryview):
                left.append((inner, value, depth + 1))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers with numbers, or the bytes of texts and messages; 0 for other fixed-size values."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        value: int | memoryview = 0
        match wire:
            case 0:  # VARINT; below FIXED64 and FIXED32, then BYTES
                value, at = _varint(message, at)
            case 1 | 5:
                at += 8 if wire == 1 else 4
            case 2:
                size, at = _varint(message, at)
                value, at = message[at : at + size], at + size
            case _:
                raise ValueError("it is no ONNX model")
        if at > len(message):
            raise ValueError("it is no ONNX model, or was cut")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at + shift // 7 >= len(message):
            break
        byte = message[at + shift // 7]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise ValueError("it is no ONNX model, or was cut")
