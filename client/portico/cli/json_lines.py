"""Files with one JSON object per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from portico.errors import InvalidRequest


def read_objects(path: Path, param: str) -> list[dict[str, Any]]:
    """Return the objects in a file. Raise `InvalidRequest` for the first line that contains none."""
    objects = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"Line {number} of {path} is not JSON: {error}.", param=param) from error
        if not isinstance(value, dict):
            raise InvalidRequest(f"Line {number} of {path} is not an object.", param=param)
        objects.append(value)
    return objects
