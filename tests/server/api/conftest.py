"""What the browser tests of the page share."""

from tests.page import opened, seen

__all__ = ["opened", "seen"]
