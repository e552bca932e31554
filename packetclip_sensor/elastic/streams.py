"""The data streams that we may write, each `logs-DATASET-NAMESPACE`. Apart from the rest, which loads Elasticsearch's client."""

ALERTS, FLOWS, HEALTH = "packetclip.alert", "packetclip.flow", "packetclip.health"
DATASETS = (ALERTS, FLOWS, HEALTH)


def stream_name(namespace: str, dataset: str = ALERTS) -> str:
    """The data stream that a dataset's documents go to."""
    return f"logs-{dataset}-{namespace}"
