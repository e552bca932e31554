"""A chat server for the tests of what asks a language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from chat_server import ChatServer, Reply

Start = Callable[[Callable[[str], Reply]], ChatServer]


@pytest.fixture
def chat() -> Iterator[Start]:
    """Starts a server whose answers the given function makes."""
    servers: list[ChatServer] = []

    def start(answer: Callable[[str], Reply]) -> ChatServer:
        servers.append(ChatServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
