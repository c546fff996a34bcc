"""A folder without read permission."""

import os
from pathlib import Path

import pytest


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make the folder ``name`` unreadable."""
    real = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
