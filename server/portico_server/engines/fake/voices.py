"""The voices of a fake model that speaks: known before its process runs."""

from __future__ import annotations

VOICES = ("default", "alloy", "echo", "nova")
