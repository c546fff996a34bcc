"""The error of a conversion."""

from __future__ import annotations


class ConversionFailed(Exception):
    """A file that cannot be converted; the message is for the user who chose it."""
