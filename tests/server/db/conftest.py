"""Databases in this folder are migrated, not copied."""

from __future__ import annotations

import pytest
from tests import template_db

from portico_server.db import migrate


@pytest.fixture(autouse=True)
def _migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "upgrade", template_db.upgrade)
