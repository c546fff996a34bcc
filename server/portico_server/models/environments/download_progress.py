"""Reads uv's download progress from its output. Pure."""

from __future__ import annotations

import re

_BEGUN = re.compile(r"Downloading (\S+) \((\d+(?:\.\d+)?)([KMG])iB\)")
_ENDED = re.compile(r"Downloaded (\S+)")
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


class DownloadProgress:
    """A parser of uv's output, which names each package above about a megabyte twice.

    uv prints the package with its size when the download starts, and again when the download ends.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._local_names: set[str] = set()

    def hear(self, words: str) -> tuple[int, int] | None:
        """Return the downloaded bytes and the total bytes of all started downloads, or ``None`` if ``words`` contain
        no progress.
        """
        if match := _BEGUN.fullmatch(words):
            self._sizes[match[1]] = int(float(match[2]) * _UNITS[match[3]])
        elif (match := _ENDED.fullmatch(words)) and match[1] in self._sizes:
            self._local_names.add(match[1])
        else:
            return None
        return sum(self._sizes[name] for name in self._local_names), sum(self._sizes.values())
