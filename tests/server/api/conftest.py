"""Fixtures shared by the page's browser tests."""

from tests.page import opened, seen

__all__ = ["opened", "seen"]
