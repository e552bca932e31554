"""One change in the cluster at a time: what is there, what is wanted, and the request that makes it so.

A plan is a list of steps, made whole before the first is taken, so that what stands in the way is refused before anything changed
and `--dry-run` prints what the same run without it sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import ApiError, BadRequestError, Elasticsearch

from packetclip_sensor.errors import SinkError

OURS = "packetclip-sensor"
"""`_meta.managed_by` (`metadata.managed_by` of roles and keys) of everything that we put."""
JSON = {"accept": "application/json", "content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with one thing; without `method` nothing, and `words` say why."""

    mark: str
    """new, upgrade, renew, roll, remove, same, left or skip."""
    kind: str
    name: str
    words: str = ""
    method: str = ""
    path: str = ""
    body: Mapping[str, Any] | None = None
    instead: Step | str = ""
    """Where Elasticsearch refuses the request (400): the step to take in its place, or what to tell the user."""

    def take(self, client: Elasticsearch) -> Any:
        """Send the request; the answer's body, None where there is nothing to do.

        Raises:
            SinkError: Elasticsearch refuses it for good.
            elasticsearch.ApiError, elasticsearch.TransportError: it refuses these credentials, is not well or not there.
        """
        if not self.method:
            return None
        try:
            return client.perform_request(self.method, self.path, headers=JSON, body=self.body).body
        except BadRequestError as err:
            if isinstance(self.instead, Step):
                return self.instead.take(client)
            remedy = self.instead or "what stands above is done; look whether this server can do that"
            raise SinkError(f"{self.kind} {self.name}: Elasticsearch refuses it: {reason(err)}; {remedy}") from err


def get(client: Elasticsearch, path: str) -> Any:
    """The body of a GET; an empty dict where there is nothing at this path.

    Raises:
        elasticsearch.ApiError, elasticsearch.TransportError: the cluster refuses it or is not there.
    """
    answer = client.options(ignore_status=404).perform_request("GET", path, headers=JSON)
    return answer.body if answer.meta.status != 404 else {}


def has(client: Elasticsearch, path: str) -> bool:
    """Whether the server has a handler for this path at all: Elasticsearch answers 400 "no handler found" or 405 without it."""
    try:
        get(client, path)
    except ApiError as err:
        if err.status_code == 405 or (err.status_code == 400 and "no handler found" in str(err.body)):
            return False
        raise
    return True


def reason(err: ApiError) -> str:
    """What Elasticsearch says is wrong, in its own words."""
    body: Any = err.body
    error = body.get("error", body) if isinstance(body, Mapping) else body
    return str(error.get("reason", error) if isinstance(error, Mapping) else error)
