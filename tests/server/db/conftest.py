"""Databases are migrated here, not copied."""

from __future__ import annotations

import pytest
from tests import blank

from portico_server.db import migrate


@pytest.fixture(autouse=True)
def _migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "upgrade", blank.upgrade)
