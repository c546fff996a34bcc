"""What an import brings along, seen in a fresh process: the price of a start is decided here."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    *("aiohttp", "alembic", "fastapi", "hnswlib", "httpx", "lxml", "mcp", "numpy", "opencc", "rjieba"),
    *("tantivy", "torch", "transformers", "wordllama", "xllamacpp"),
}
"""Packages that take long to import. The daemon answers /health before it needs any of them."""


def modules_after(code: str) -> set[str]:
    """The modules that are loaded once ``code`` has run in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_the_sdk_brings_nothing_beyond_what_httpx_brings() -> None:
    brought = modules_after("import portico") - modules_after("import httpx")
    assert packages(brought) == {"portico"}, sorted(brought)


def test_every_name_of_the_sdk_needs_httpx_and_the_standard_library_alone() -> None:
    everything = "import portico\nfor name in portico.__all__: getattr(portico, name)"
    brought = packages(modules_after(everything) - modules_after("import httpx"))
    assert brought - sys.stdlib_module_names == {"portico"}


def test_the_sdk_by_itself_needs_no_extra() -> None:
    loaded = packages(modules_after("import portico; portico.Client; portico.AsyncClient"))
    assert loaded.isdisjoint({"typer", "textual", "portico_server", "portico_tui"})


def test_the_words_of_the_wire_are_the_standard_library_alone() -> None:
    brought = packages(modules_after("import portico.wire"))
    assert brought - {"portico", "__main__"} <= sys.stdlib_module_names | packages(modules_after("pass"))


def test_the_daemon_starts_without_its_heavy_packages() -> None:
    assert packages(modules_after("import portico_server.app")) & HEAVY == set()


def test_the_terminal_ui_knows_the_daemon_only_through_the_client() -> None:
    loaded = packages(modules_after("import portico_tui.app"))
    assert "textual" in loaded
    assert loaded.isdisjoint({"portico_server", "sqlalchemy", "starlette", "aiohttp", "fastapi", "mcp"})
