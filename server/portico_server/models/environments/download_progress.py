"""How much of its packages uv has fetched, read from what it prints. Pure."""

from __future__ import annotations

import re

_BEGUN = re.compile(r"Downloading (\S+) \((\d+(?:\.\d+)?)([KMG])iB\)")
_ENDED = re.compile(r"Downloaded (\S+)")
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


class DownloadProgress:
    """uv names what is larger than about a megabyte, with its size when it begins with it, and again when it has it."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._here: set[str] = set()

    def hear(self, words: str) -> tuple[int, int] | None:
        """Bytes that are here, and bytes of all that was begun, after these words; ``None`` if they are of neither."""
        if match := _BEGUN.fullmatch(words):
            self._sizes[match[1]] = int(float(match[2]) * _UNITS[match[3]])
        elif (match := _ENDED.fullmatch(words)) and match[1] in self._sizes:
            self._here.add(match[1])
        else:
            return None
        return sum(self._sizes[name] for name in self._here), sum(self._sizes.values())
