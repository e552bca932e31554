"""What the benchmarks share: each finds what it imports, and a cluster that is asked for has to answer."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest
from scripted_server import ScriptedServer

import benchmarks
from benchmarks.common import ask_for_cluster


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(*benchmarks.__path__).glob("*.py")))
def test_each_benchmark_finds_what_it_imports(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def parsed(*argv: str) -> str:
    parser = argparse.ArgumentParser()
    ask_for_cluster(parser)
    url: str = parser.parse_args(argv).elasticsearch
    return url


@pytest.mark.parametrize("status", [200, 405])
def test_a_cluster_that_answers_is_taken(status: int, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.health = (status, {})
    assert parsed("--elasticsearch", server.url) == server.url
    monkeypatch.setenv("PACKETCLIP_TEST_ELASTICSEARCH", server.url)
    assert parsed() == server.url


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere"])
def test_where_none_answers_there_is_one_line_with_the_remedy(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--elasticsearch", url)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{url}: no Elasticsearch answers (" in said
    assert "start one, or name another with --elasticsearch URL" in said
