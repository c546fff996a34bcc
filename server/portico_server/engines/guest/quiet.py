"""What every program that works on a model's files is told."""

from __future__ import annotations

from collections.abc import Mapping

QUIET: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
"""The model is here: an engine has nothing to look for elsewhere, and nothing to report."""
