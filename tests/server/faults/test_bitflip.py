"""A flipped bit in an index leads to a rebuild from the database."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests.conftest import CONFIGURATION, DOCS


def found(url: str, query: str) -> list[str]:
    answer = httpx.post(f"{url}/api/stores/docs/search", json={"query": query}, timeout=60).raise_for_status()
    return [item["filename"] for item in answer.json()["data"]]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_a_flipped_bit_costs_a_rebuild_and_nothing_else(tmp_path: Path, which: str) -> None:
    home, docs, file = tmp_path / "home", tmp_path / "docs", tmp_path / "portico.yaml"
    docs.mkdir()
    file.write_text(CONFIGURATION)
    for name, text in DOCS.items():
        (docs / name).write_text(text, encoding="utf-8")
    arguments = ("--file", str(file), "--docs", str(docs))
    with daemons.running(home, *arguments, env={"PORTICO_OFFLINE": "1"}) as daemon:
        daemon.settle()
        assert found(daemon.url, "which port")[0] == "port.md"
        assert daemon.stop() == 0
    files = sorted(
        (path for path in (home / "indexes").rglob("*") if path.is_file() and path.stat().st_size > 16),
        key=lambda path: path.stat().st_size,
    )
    damaged = files[-1] if which == "largest" else files[0]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with daemons.running(home, *arguments, env={"PORTICO_OFFLINE": "1"}) as daemon:
        daemon.settle()
        for query, name in (("which port", "port.md"), ("dough", "bread.txt"), ("雪莲花", "gaoshan.md")):
            assert found(daemon.url, query)[0] == name
