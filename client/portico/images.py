"""What the SDK tells of pictures that a model has made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture. ``revised_prompt`` where the model was told something else than was asked."""

    data: bytes = field(repr=False)
    media_type: str
    revised_prompt: str = ""

    def save(self, to: str | Path) -> Path:
        """Write it to a file; where that is."""
        path = Path(to)
        path.write_bytes(self.data)
        return path
