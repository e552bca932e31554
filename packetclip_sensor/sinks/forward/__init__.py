"""Batches of alerts come in; requests to a webhook, or syslog messages over TLS, go out, until the receiver acknowledges them."""
