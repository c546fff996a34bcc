"""Files of a request, sent as base64 under ``files`` in the body."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Refusal


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """One attached file; ``field`` is the name of its form field in OpenAI's API."""

    field: str
    name: str
    data: bytes


def attached_files(body: Mapping[str, Any], field: str) -> list[AttachedFile]:
    """Return the files of the form field ``field``, in order. Raise `Refusal` if a file is not base64."""
    found_attached_files = []
    for file in body.get("files") or ():
        if file.get("field") != field:
            continue
        try:
            data = base64.b64decode(file["data"], validate=True)
        except (binascii.Error, KeyError, TypeError, ValueError) as error:
            raise Refusal(f"The file in '{field}' is not base64.", param=field) from error
        found_attached_files.append(AttachedFile(field, str(file.get("name") or field), data))
    return found_attached_files
