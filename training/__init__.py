"""What makes a model: the lab, labelled windows, texts, the network, training, the bundle and its evaluation.

It imports `packetclip_sensor`, never the other way round; its packages import each other in one direction: text, data, model,
ship, fit, evaluate.
"""

import packetclip_sensor  # noqa: F401  (before onnxruntime, whose telemetry it switches off)
