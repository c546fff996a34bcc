"""A daemon whose files change says so, instead of importing files that do not match the modules in memory."""

from __future__ import annotations

import math

import pytest

import portico_server
from portico_server.changed_files import ChangedFileFinder
from portico_server.core.errors import Unavailable


@pytest.mark.parametrize("name", ["portico_server.settings", "portico_server.removed_since"])
def test_a_changed_or_removed_file_is_named(name: str) -> None:
    with pytest.raises(Unavailable, match=rf"have changed .*\({name}\).* Restart the daemon") as caught:
        ChangedFileFinder(0).find_spec(name, portico_server.__path__)
    assert caught.value.code == "files_changed"


@pytest.mark.parametrize("name", ["portico_server.settings", "portico_server.never_there"])
def test_other_files_are_left_to_the_next_finder(name: str) -> None:
    assert ChangedFileFinder(math.inf).find_spec(name, portico_server.__path__) is None
    assert ChangedFileFinder(0).find_spec("json.decoder", portico_server.__path__) is None
