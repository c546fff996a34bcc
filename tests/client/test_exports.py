"""The public API of the package, and the modules that importing it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import portico


def test_every_public_name_is_exported() -> None:
    for name in portico.__all__:
        assert getattr(portico, name) is not None
    assert set(portico.__all__) <= set(dir(portico))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        portico.Klient  # noqa: B018


HEAVY = {"httpx", "rich", "asyncio", "portico_server"}


@pytest.mark.parametrize("module", ["portico", "portico.cli.root", "portico.cli.up"])
def test_the_command_starts_the_daemon_before_anything_heavy_is_imported(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_the_client_brings_nothing_but_httpx_and_the_standard_library() -> None:
    code = (
        "import sys, httpx; before = set(sys.modules); import portico; portico.Client; portico.AsyncClient\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"portico"}
