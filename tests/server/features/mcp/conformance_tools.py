"""Tools that scenarios of the conformance suite call by name."""

from __future__ import annotations


def test_simple_text() -> str:
    """Answers with text."""
    return "This is a simple text response for testing."


def test_error_handling() -> str:
    """Always fails."""
    raise ValueError("This tool intentionally returns an error for testing")
