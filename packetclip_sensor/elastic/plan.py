"""One change in the cluster at a time: what is wanted, what is there, and the request that makes it so.

A plan is a list of steps, made whole before the first is taken, so that what stands in the way is refused before anything changed
and `--dry-run` prints what the same run without it sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import ApiError, Elasticsearch

from packetclip_sensor.common.durable import BUSY
from packetclip_sensor.elastic.client import JSON, form, get, reason
from packetclip_sensor.errors import SinkError

OURS = "packetclip-sensor"
"""`_meta.managed_by` (`metadata.managed_by` of roles and keys) of everything that we put."""
REFUSED = "what was put before it stays; correct what it names, by hand, and start again"
KINDS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "pipeline": ("/_ingest/pipeline/", ("NAME",)),
    "ILM policy": ("/_ilm/policy/", ("NAME", "policy")),
    "component template": ("/_component_template/", ("component_templates", 0, "component_template")),
    "index template": ("/_index_template/", ("index_templates", 0, "index_template")),
    "role": ("/_security/role/", ("NAME",)),
}
"""Where a thing of each kind is asked for and put, and the keys that lead to it in the answer."""


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
    """Where Elasticsearch refuses the request: the step to take in its place, or the remedy in words."""

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
        except ApiError as err:
            if err.status_code in BUSY or err.status_code in (401, 403):
                raise
            if isinstance(self.instead, Step):
                return self.instead.take(client)
            remedy = self.instead or "what stands above is done; look whether this server can do that"
            raise SinkError(f"{self.kind} {self.name}: Elasticsearch refuses it: {reason(err)}; {remedy}") from err


@dataclass(frozen=True, slots=True)
class Thing:
    """What a cluster has under a name of ours. `body` is what we want there, without what wraps it in a request or an answer."""

    kind: str
    name: str
    body: Mapping[str, Any]
    unless: str = ""
    """Why a body that somebody altered is left alone; empty where ours is put back."""
    join: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] = lambda ours, there: ours
    """What is wanted beside what is there: another sensor's model may have put fields of its own."""

    @property
    def path(self) -> str:
        return KINDS[self.kind][0] + self.name

    def found(self, client: Elasticsearch) -> Mapping[str, Any] | None:
        """What is there now.

        Raises:
            elasticsearch.ApiError, elasticsearch.TransportError: the cluster refuses it or is not there.
        """
        found: Any = get(client, self.path)
        try:
            for key in KINDS[self.kind][1]:
                found = found[self.name if key == "NAME" else key]
        except LookupError:
            return None
        return found or None

    def put(self, client: Elasticsearch) -> Step:
        """Put what is missing, older or altered; leave what is newer.

        Raises:
            SinkError: what is there is not ours.
            elasticsearch.ApiError, elasticsearch.TransportError: see `found`.
        """

        def step(mark: str, words: str) -> Step:
            if mark in ("same", "left"):
                return Step(mark, self.kind, self.name, words)
            body = {"policy": wanted} if self.kind == "ILM policy" else wanted
            return Step(mark, self.kind, self.name, words, "PUT", self.path, body, REFUSED)

        found, ours = self.found(client), _version(self.body)
        wanted = form(client, self.body if found is None else self.join(self.body, found))
        if found is None:
            return step("new", f"version {ours}")
        if _meta(found).get("managed_by") != OURS:
            raise SinkError(
                f"{self.kind} {self.name}: is there and not ours (no _meta.managed_by: {OURS}); nothing was changed; "
                f"look at it (GET {self.path}), and rename or delete it if nobody needs it"
            )
        theirs = _version(found)
        if theirs > ours:
            return step("left", f"version {theirs} is newer than ours, {ours}: a newer sensor put it")
        if theirs < ours:
            return step("upgrade", f"version {theirs} becomes {ours}")
        if same(wanted, found):
            return step("same", f"version {ours}")
        return step("same", self.unless) if self.unless else step("renew", f"version {ours} was altered")

    def remove(self, client: Elasticsearch, used: str) -> list[Step]:
        """Take away what is ours, unless something uses it (`used` says what); nothing to do where it is not there."""
        found = self.found(client)
        if found is None:
            return []
        if _meta(found).get("managed_by") != OURS:
            return [Step("left", self.kind, self.name, "is not ours")]
        if used:
            return [Step("left", self.kind, self.name, used)]
        return [Step("remove", self.kind, self.name, "", "DELETE", self.path)]


def _meta(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Elasticsearch calls it otherwise in roles."""
    meta: Mapping[str, Any] = body.get("_meta") or body.get("metadata") or {}
    return meta


def _version(body: Mapping[str, Any]) -> int:
    return int(body.get("version") or _meta(body).get("version") or 0)


def same(ours: Any, there: Any, *, whole: bool = False) -> bool:
    """Whether the cluster has what we would put. It adds keys of its own, but no fields, and gives settings back as text."""
    match ours:
        case Mapping():
            if not isinstance(there, Mapping) or (whole and set(there) != set(ours)):
                return False
            return all(name in there and same(value, there[name], whole=name == "properties") for name, value in ours.items())
        case list():
            return isinstance(there, list) and len(ours) == len(there) and all(map(same, ours, there))
    return str(ours).lower() == str(there).lower()
