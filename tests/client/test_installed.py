"""Advice on optional parts: it names commands that work in the installation that prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from tests.daemon import ROOT

from portico import _installed
from portico._installed import how_to_add

METADATA = """Metadata-Version: 2.4
Name: portico-ai
Version: 0.1.0
Requires-Dist: httpx>=0.28
Provides-Extra: cli
Requires-Dist: rich>=14; extra == 'cli'
Provides-Extra: sql
Requires-Dist: asyncpg<1,>=0.30; extra == 'sql'
Requires-Dist: duckdb<3,>=1.3; extra == "sql"
Provides-Extra: tui
Requires-Dist: portico-ai[cli]; extra == 'tui'
Requires-Dist: textual<9,>=8; extra == 'tui'
Provides-Extra: hnsw
Requires-Dist: hnswlib<0.9,>=0.8; extra == 'hnsw'
"""

Installed = Callable[..., None]
PIP = f"{sys.executable} -m pip install"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Simulate an installation with the given ``direct_url.json``, if any."""

    def be(origin: dict[str, object] | None = None) -> None:
        folder = tmp_path / "portico_ai-0.1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(METADATA, encoding="utf-8")
        if origin is not None:
            (folder / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")
        monkeypatch.setattr(_installed, "_distribution", lambda: PathDistribution(folder))
        monkeypatch.setattr(sys, "prefix", str(tmp_path))

    return be


def test_a_source_checkout_suggests_its_install_script(installed: Installed) -> None:
    installed({"url": ROOT.as_uri(), "dir_info": {"editable": True}})
    assert how_to_add("server") == how_to_add("tui") == f"{ROOT}/scripts/install"
    assert how_to_add("sql") == f"{PIP} 'asyncpg<1,>=0.30' 'duckdb<3,>=1.3'"


def test_an_existing_wheel_is_suggested_with_the_extra(installed: Installed, tmp_path: Path) -> None:
    wheel = tmp_path / "portico_ai-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert how_to_add("sql") == f"{PIP} 'portico-ai[sql] @ {wheel.as_uri()}'"
    wheel.unlink()
    assert how_to_add("sql") == f"{PIP} 'asyncpg<1,>=0.30' 'duckdb<3,>=1.3'"


def test_other_installations_suggest_installing_the_packages_directly(installed: Installed) -> None:
    installed()
    assert how_to_add("tui") == f"{PIP} 'rich>=14' 'textual<9,>=8'"
    assert how_to_add("hnsw") == f"{PIP} 'hnswlib<0.9,>=0.8'"


def test_the_container_image_suggests_building_a_derived_image(installed: Installed, tmp_path: Path) -> None:
    installed({"url": "file:///src", "dir_info": {}})
    (tmp_path / _installed.IMAGE_MARK).touch()
    assert how_to_add("sql") == (
        "in your own image, built on this one: USER root, "
        f"RUN {PIP} 'asyncpg<1,>=0.30' 'duckdb<3,>=1.3', USER portico"
    )
    assert f"touch /opt/portico/{_installed.IMAGE_MARK}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_no_text_suggests_installing_portico_from_a_package_index() -> None:
    """No advice points to an index without Portico.

    All code that gives advice calls `how_to_add`; a hard-coded command would be wrong in some installation.
    """
    exempt_places = (
        "client/portico/_installed.py",
        "scripts/first-five-minutes",
    )  # defines it, searches for it
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("client", "server", "tui", "docs", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".html", ".js", "") and path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if "pip install 'portico" in line or "pip install portico" in line
    ]
    assert [place for place in places if not place.startswith(exempt_places)] == []
