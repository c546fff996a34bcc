"""Recognises chat templates that support a model's reasoning. Pure."""

from __future__ import annotations

import re
from typing import Final

_MARKS: Final = re.compile(
    r"enable_thinking|reasoning_content|reasoning_effort|<think>|\[THINK\]|<\|channel|\bthinking\b"
)
"""Variables and tokens with which templates write earlier reasoning, or set the amount of reasoning."""


def writes_thoughts(template: str) -> bool:
    """Return whether a chat template writes reasoning, or has a setting for it."""
    return _MARKS.search(template) is not None
