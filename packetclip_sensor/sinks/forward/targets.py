"""The receivers that a configuration names."""

from __future__ import annotations

from packetclip_sensor.config.settings import Config
from packetclip_sensor.sinks.forward.forwarding import Target


def targets(config: Config) -> list[Target]:
    """Each receiver below `sink`, in the order in which it gets a document.

    Raises:
        ConfigError: an address, a secret, a certificate or a template cannot be used.
    """
    found: list[Target] = []
    if config.sink.webhook is not None:
        from packetclip_sensor.sinks.forward.webhook import Webhook  # noqa: PLC0415  (its libraries are large)

        found.append(Webhook(config.sink.webhook))
    if config.sink.syslog is not None:
        from packetclip_sensor.sinks.forward.syslog import Syslog  # noqa: PLC0415  (as above)

        found.append(Syslog(config.sink.syslog, config.sensor_name))
    return found
