"""Alerts as HTTP requests: one document each, as JSON or by a template of the site's, signed as Standard Webhooks asks.

Source: github.com/standard-webhooks/standard-webhooks, specification 1.0.0: `webhook-id`, `webhook-timestamp`, and
`webhook-signature`, HMAC-SHA256 of both and the body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import urllib3
from jinja2 import ChainableUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from packetclip_sensor import __version__
from packetclip_sensor.common.durable import BUSY
from packetclip_sensor.common.text import keep_secret, printable
from packetclip_sensor.config import secrets
from packetclip_sensor.config.settings import WebhookConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.sinks.delivery import retry_after
from packetclip_sensor.sinks.forward.forwarding import BusyError, Document, RefusedError, connected, tls, unreached

MAX_SECRET_BYTES = 4096
ANSWER_BYTES = 1000
"""What is read of an answer."""
REFUSES = frozenset({400, 413, 415, 422})
"""Statuses that are about the document; with all others but success another document would fare no better."""
_REMEDY = {
    401: "check sink.webhook.token_file or token_env, and the signing secret",
    403: "check sink.webhook.token_file or token_env, and the signing secret",
    404: "correct the address, or make a new one where it was taken back",
    410: "correct the address, or make a new one where it was taken back",
}


class Webhook:
    """One address that gets each document by POST."""

    name, at_once = "webhook", 1

    def __init__(self, config: WebhookConfig, *, now: Callable[[], float] = time.time) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigError: an address, a secret, a certificate or the template cannot be used.
        """
        self._now, self._url = now, config.url or ""
        if (config.url is None) == (config.url_file is None):
            raise ConfigError("sink.webhook: names no address, or two; give it url or url_file")
        if config.url_file is not None:
            self._url = _secret(None, config.url_file, "url")
        self._parts = urlsplit(self._url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise ConfigError(
                "sink.webhook: its address (not shown, it may be a secret) is no URL; write it like https://example.org/x"
            )
        self.where = f"{self._parts.scheme}://{self._parts.netloc.rpartition('@')[2]}"
        self._token = _secret(config.token_env, config.token_file, "token")
        self._key = _key(_secret(config.secret_env, config.secret_file, "secret"))
        self._context = None
        if self._parts.scheme == "https":
            self._context = tls("sink.webhook", config.ca_certs, verify=config.verify_certs)
        elif self._token:
            raise ConfigError(f"sink.webhook {self.where}: the token would travel unencrypted; write https://")
        self._timeout_s = config.timeout_s
        self._pool = urllib3.PoolManager(ssl_context=self._context, timeout=config.timeout_s, retries=False)
        self._template = None
        if config.body is not None:
            # The template is the site's, what it shows is not: a sandbox, and Slack's and others' JSON by `tojson` alone.
            made = ImmutableSandboxedEnvironment(undefined=ChainableUndefined, autoescape=False)
            try:
                self._template = made.from_string(config.body.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, TemplateError) as err:
                raise ConfigError(f"sink.webhook.body {config.body}: {err}; name a Jinja template that gives JSON") from err

    def send(self, documents: Sequence[Document]) -> None:
        (document,) = documents
        body = self._body(document)
        if not body:
            return
        headers = self._headers(document["event"]["id"], body)
        try:
            answer = self._pool.request(
                "POST", self._url, body=body, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
            body = answer.read(ANSWER_BYTES)
            answer.release_conn() if len(body) < ANSWER_BYTES else answer.close()
        except urllib3.exceptions.HTTPError as err:
            raise BusyError(printable(unreached("sink.webhook", self.where, err), 500)) from err
        if answer.status < 300 or answer.status == 409:  # 409: it has this id already
            return
        why = printable(f"answers {answer.status}: {' '.join(body.decode('utf-8', 'replace').split())}", 300)
        if answer.status in REFUSES:
            raise RefusedError(answer.status, why)
        usual = "it is tried again" if answer.status in BUSY else "look into the receiver's log"
        remedy = _REMEDY.get(answer.status, usual if answer.status >= 400 else "write the address to which it redirects")
        raise BusyError(f"sink.webhook {self.where}: {why}; {remedy}", retry_after(answer.headers.get("retry-after")))

    def probe(self) -> None:
        port = self._parts.port or (443 if self._context else 80)
        connected(self._parts.hostname or "", port, self._context, self._timeout_s).close()

    def _body(self, document: Document) -> bytes:
        """What is sent of a document; empty where the template gives nothing."""
        if self._template is None:
            return msgspec.json.encode(document)
        try:
            text = self._template.render(document).strip().encode()
            if text:
                msgspec.json.decode(text)
        except Exception as err:  # a template may raise whatever Python does
            raise RefusedError(0, printable(f"the template gives no JSON: {err}", 300)) from err
        return text

    def _headers(self, id_: str, body: bytes) -> dict[str, str]:
        at = str(int(self._now()))
        headers = {
            "content-type": "application/json",
            "user-agent": f"packetclip-sensor/{__version__}",
            "webhook-id": id_,
            "webhook-timestamp": at,
        }
        if self._key:
            signed = hmac.digest(self._key, b"%s.%s.%s" % (id_.encode(), at.encode(), body), hashlib.sha256)
            headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        return headers | ({"authorization": f"Bearer {self._token}"} if self._token else {})


def _secret(variable: str | None, file: Any, what: str) -> str:
    """A secret of the configuration, masked from now on; empty where none is named."""
    option = f"sink.webhook.{what}"
    if variable is not None and file is not None:
        raise ConfigError(f"{option}_env and {what}_file exclude each other; keep one")
    secret, named = "", f"{option}_env"
    if variable is not None:
        secret = secrets.from_environment(variable, named)
    elif file is not None:
        secret, named = secrets.from_file(file, f"{option}_file", f"the {what}", MAX_SECRET_BYTES)
    else:
        return ""
    if not secret or len(secret) > MAX_SECRET_BYTES or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigError(f"{named} holds not one line with one {what}; put it there, alone")
    keep_secret(secret)
    return secret


def _key(secret: str) -> bytes:
    """The bytes of a signing secret: those that `whsec_` introduces as base64, else its own."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as err:
        raise ConfigError("sink.webhook.secret: begins with whsec_ and is no base64 behind it; copy it whole") from err
