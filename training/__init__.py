"""What makes a model: lab, pairs, training, evaluation. It imports `packetclip_sensor`, never the other way round."""

import packetclip_sensor  # noqa: F401  (before onnxruntime, whose telemetry it switches off)
