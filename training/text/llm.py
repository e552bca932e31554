"""The one client for language models: an OpenAI-compatible endpoint.

What passes (no connection, time-outs, 429, 5xx, a cut body) is tried again with growing pauses; what does not (401, 404, a web
page) ends at once with the remedy. Answers that were accepted go into a work file, so a stopped run goes on where it was.
"""

import argparse
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from rich.console import Console
from rich.progress import Progress

from packetclip_sensor.errors import SensorError

MAX_ANSWER_BYTES = 1_000_000
_LONGEST_PAUSE_S = 60.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses worth another try. Source: RFC 9110 sections 15.5.9 and 15.6, RFC 6585 section 4, RFC 8470."""


class EndpointError(SensorError):
    """The model cannot be reached, refuses, or answers something that is of no use; the message says what to do."""


class _PassingError(EndpointError):
    """A failure that may pass; `pause_s` is what the server asked for, if it did."""

    def __init__(self, message: str, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key to another host and turn POST into GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Answer:
    """A model's text; `cut` when it stopped at the token limit, so that its last word may be half a word."""

    text: str
    cut: bool = False


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible chat endpoint: base address (with /v1), model name, optional key, limits."""

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    tries: int = 5
    pause_s: float = 1.0
    max_tokens: int = 512
    sleep: Callable[[float], None] = time.sleep

    def ask(self, prompt: str, *, temperature: float = 0.0) -> Answer:
        """The model's answer to one prompt.

        Raises:
            EndpointError: it failed for good, or `tries` times in a row.
        """
        attempt, pause = 1, self.pause_s
        while True:
            try:
                return self._once(prompt, temperature)
            except _PassingError as err:
                if attempt >= self.tries:
                    again = f" ({self.tries} tries)" if self.tries > 1 else ""
                    raise EndpointError(f"{err}{again}; what was answered so far is kept, so run it again later") from err
                self.sleep(min(err.pause_s if err.pause_s is not None else pause, _LONGEST_PAUSE_S))
                attempt, pause = attempt + 1, pause * 2

    def _once(self, prompt: str, temperature: float) -> Answer:
        address = self.url.rstrip("/") + "/chat/completions"
        if not address.startswith(("http://", "https://")):
            raise EndpointError(f"{self.url}: not an http address; give one such as http://127.0.0.1:8080/v1")
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "temperature": temperature, "max_tokens": self.max_tokens, "messages": messages}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.api_key}"} if self.api_key else {})
        raw = self._post(address, json.dumps(body).encode(), headers)
        try:
            choice = json.loads(raw)["choices"][0]
            content, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as err:
            shown = raw[:60].decode("utf-8", "replace")
            raise EndpointError(f"{address}: not a chat completion: {shown!r}; is the endpoint OpenAI-compatible?") from err
        if not isinstance(content, str):
            raise EndpointError(f"{address}: the completion's content is {type(content).__name__}, not text; try another model")
        return Answer(content, cut)

    def _post(self, address: str, body: bytes, headers: dict[str, str]) -> bytes:
        opener = urllib.request.build_opener(_NoRedirect)
        request = urllib.request.Request(address, body, headers)  # noqa: S310 - scheme checked by the caller
        late = time.monotonic() + self.timeout_s
        try:
            with opener.open(request, timeout=self.timeout_s) as reply:
                raw = b""
                while chunk := reply.read1(65536):
                    raw += chunk
                    if len(raw) > MAX_ANSWER_BYTES:
                        raise EndpointError(f"{address}: answer is over {MAX_ANSWER_BYTES} bytes; is it a chat endpoint?")
                    if time.monotonic() > late:  # the socket's own limit starts anew with every byte
                        raise TimeoutError("timed out")
                promised = reply.headers.get("Content-Length", "")
                if promised.isdigit() and len(raw) < int(promised):
                    raise _PassingError(f"{address}: the answer ended after {len(raw)} of {promised} bytes")
                return raw
        except urllib.error.HTTPError as err:
            raise _refusal(address, err) from err
        except TimeoutError as err:
            raise _PassingError(f"{address}: no answer in {self.timeout_s:g} s; a slow model needs a larger --timeout-s") from err
        except (OSError, http.client.HTTPException) as err:
            reason = getattr(err, "reason", None) or err
            reason = f"in {self.timeout_s:g} s" if isinstance(reason, TimeoutError) else f"({reason})"
            raise _PassingError(f"{address}: no answer {reason}; is the endpoint running?") from err


def _refusal(address: str, err: urllib.error.HTTPError) -> EndpointError:
    message = f"{address}: answered {err.code} {err.reason}"
    if err.code in _PASSING:
        after = err.headers.get("Retry-After", "")
        return _PassingError(message, float(after) if after.isdigit() else None)
    if err.code in (401, 403):
        return EndpointError(f"{message}; check the key (--api-key-file)")
    if 300 <= err.code < 400:
        return EndpointError(
            f"{message}; give the address that it points to, {err.headers.get('Location', 'which it does not name')}"
        )
    return EndpointError(f"{message}; check the address and the model's name")


class Work:
    """Accepted answers by prompt, in a file of one JSON object a line; a half line from a stop in the middle is left out.

    Without a path nothing is kept. Answers of another model are not taken.
    """

    def __init__(self, path: Path | None, model: str) -> None:
        self._model, self.path = model, path
        self._known: dict[str, Any] = {}
        self._file: IO[str] | None = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                if entry["model"] == model:
                    self._known[entry["prompt"]] = entry["kept"]
            except (ValueError, KeyError, TypeError):
                continue
        self._file = path.open("a", encoding="utf-8")
        if whole and not whole.endswith("\n"):
            self._file.write("\n")

    def __len__(self) -> int:
        return len(self._known)

    def get(self, prompt: str) -> Any:
        """What was kept for a prompt; None when nothing was."""
        return self._known.get(prompt)

    def put(self, prompt: str, kept: Any) -> None:
        """Keep an accepted answer, on disk at once."""
        self._known[prompt] = kept
        if self._file:
            self._file.write(json.dumps({"model": self._model, "prompt": prompt, "kept": kept}) + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the file, and remove it when its work is done."""
        if self._file and self.path:
            self._file.close()
            self._file = None
            if kind is None:
                self.path.unlink(missing_ok=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `session` reads."""
    where = "base address of an OpenAI-compatible server, for example http://127.0.0.1:8080/v1"
    parser.add_argument("--endpoint", required=True, help=where)
    parser.add_argument("--model", required=True, help="name of the endpoint's model; written down as the author")
    parser.add_argument("--api-key-file", type=Path, help="file that holds the endpoint's key, where it wants one")
    parser.add_argument("--timeout-s", type=float, default=120.0, help="longest wait for one answer, seconds")
    parser.add_argument("--tries", type=int, default=5, help="tries of one question, with growing pauses between them")
    parser.add_argument("--max-tokens", type=int, default=512, help="longest answer, tokens")
    parser.add_argument("--work", type=Path, help="file of answers so far, to go on from after a stop; by default OUT.work")


@contextmanager
def session(args: argparse.Namespace) -> Iterator[tuple[Endpoint, Work, Progress]]:
    """The model that the arguments name, its answers so far, and progress on stderr; the answers' file goes when all is done.

    Raises:
        EndpointError: the file with the key cannot be read.
    """
    path = args.work or (args.out.with_name(args.out.name + ".work") if args.out else None)
    try:
        key = args.api_key_file.read_text(encoding="utf-8").strip() if args.api_key_file else None
    except OSError as err:
        raise EndpointError(f"{args.api_key_file}: cannot be read ({err.strerror}); give the file with the key") from err
    limits = {"timeout_s": args.timeout_s, "tries": args.tries, "max_tokens": args.max_tokens}
    endpoint = Endpoint(args.endpoint, args.model, key, **limits)
    with Progress(console=Console(stderr=True)) as bar, Work(path, endpoint.model) as work:
        if len(work):
            bar.console.print(f"{path}: {len(work)} answers of an earlier run are used")
        yield endpoint, work, bar
