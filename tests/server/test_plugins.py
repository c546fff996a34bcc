"""The import of a plugin that hangs is given up, and everything else keeps working."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from portico_server import plugins
from portico_server.plugins import PluginError, PluginTable

FILES = {
    "gate.py": "from threading import Event\nGATE = Event()\n",
    "hangs.py": "from gate import GATE\nGATE.wait()\n",
    "works.py": "PORTICO_PLUGIN_API = 1\nTOOL = 7\n",
    "quay-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: quay\nVersion: 1.0\n",
    "quay-1.0.dist-info/entry_points.txt": "[portico.tools]\nhangs = hangs:TOOL\nworks = works:TOOL\n",
}
"""A distribution with a plugin whose import ends when the gate is opened, and one that works."""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginTable[int]]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._entry_points.cache_clear()
    yield PluginTable("tool", {"built-in": 1}, int)
    importlib.import_module("gate").GATE.set()
    plugins._entry_points.cache_clear()


@pytest.mark.slow
def test_the_import_of_a_plugin_that_hangs_is_given_up(
    table: PluginTable[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert table["works"] == 7
    monkeypatch.setattr(plugins, "MAX_IMPORT_S", 0.2)
    with pytest.raises(PluginError, match=r"took longer than 0\.2 s"):
        table["hangs"]
    assert set(table.usable()) == {1, 7}
    assert {plugin.name: plugin.state for plugin in table.plugins()} == {"hangs": "failed", "works": "ready"}
