"""Training windows come in; for each baseline a function of windows to probabilities goes out, on the model's own split.

    for name, fit in {**REGISTRY, **on_embeddings(encode)}.items():
        probabilities = fit(train, seed)(test)  # (N, M+1), Benign first

All learn with the balance that the model's batches have (`features.balance`): none loses because a class or a capture is rare.
"""

from functools import partial

import numpy as np

from training.data.windows import Examples
from training.evaluate.baselines.features import Encode, Fit, Predict, WindowStatistics, flow_statistics
from training.evaluate.baselines.flows import CLE_TFE_REDUCED, TFE_GNN_REDUCED
from training.evaluate.baselines.image import image_trees
from training.evaluate.baselines.packets import ETBERT_REDUCED
from training.evaluate.baselines.statistics import dnn, lightgbm, majority, nearest, xgboost

__all__ = ["REGISTRY", "Encode", "Fit", "Predict", "on_embeddings"]


window_and_port = partial(WindowStatistics, with_ports=True)
"""The numbers among a window's facts and the port, which the model never sees."""


def flow(_: Examples) -> Encode:
    """Statistics of the packets' relations."""
    return flow_statistics


def window_and_flow(train: Examples) -> Encode:
    """Both: all that the model sees beside bytes, as one vector."""
    statistics = WindowStatistics(train)
    return lambda examples: np.concatenate([statistics(examples), flow_statistics(examples)], axis=1)


REGISTRY: dict[str, Fit] = {
    "majority": majority,
    "1-NN, window": nearest(WindowStatistics),
    "1-NN, flow": nearest(flow),
    "XGBoost, window": xgboost(WindowStatistics),
    "XGBoost, window and port": xgboost(window_and_port),
    "XGBoost, flow": xgboost(flow),
    "XGBoost, window and flow": xgboost(window_and_flow),
    "LightGBM, window": lightgbm(WindowStatistics),
    "LightGBM, flow": lightgbm(flow),
    "LightGBM, window and flow": lightgbm(window_and_flow),
    "DNN, window": dnn(WindowStatistics),
    "DNN, window and flow": dnn(window_and_flow),
    "image and XGBoost (AIS-NIDS)": image_trees,
    "etbert-reduced": ETBERT_REDUCED,
    "tfe-gnn-reduced": TFE_GNN_REDUCED,
    "cle-tfe-reduced": CLE_TFE_REDUCED,
}


def on_embeddings(encode: Encode) -> dict[str, Fit]:
    """The baselines on an encoder's packet embeddings: the paper's rows "PacketCLIP + XGBoost / LightGBM / DNN", and 1-NN.

    Args:
        encode: windows to the mean of their packets' embeddings, for example `features.packet_mean(encode_rows)`.
    """
    kinds = {"1-NN": nearest, "XGBoost": xgboost, "LightGBM": lightgbm, "DNN": dnn}
    return {f"{name}, embeddings": make(lambda _: encode) for name, make in kinds.items()}
