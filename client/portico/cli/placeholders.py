"""The names in braces in the text of a prompt."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")


def placeholders(text: str) -> tuple[str, ...]:
    """Each name once, in the order in which they come; doubled braces are none."""
    return tuple(dict.fromkeys(match[1] for match in _TOKEN.finditer(text) if match[1]))
