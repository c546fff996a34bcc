"""What the daemon asks for: a JSON file in the job's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Order:
    """One training. ``name`` is the base as the daemon calls it, ``model`` the folder with its weights, ``folder`` the
    job's own: checkpoints and the result are written there. ``recipe`` has the words of the daemon's recipe; ``nice``
    is how far behind everything else on the machine it stands.
    """

    method: str
    name: str
    model: Path
    folder: Path
    training: Path
    validation: Path | None
    recipe: dict[str, Any]
    nice: int

    @classmethod
    def read(cls, path: Path) -> Order:
        """As the daemon wrote it."""
        given = json.loads(path.read_text(encoding="utf-8"))
        validation = given.get("validation")
        return cls(
            **{
                **{field.name: given[field.name] for field in fields(cls)},
                "model": Path(given["model"]),
                "folder": Path(given["folder"]),
                "training": Path(given["training"]),
                "validation": Path(validation) if validation else None,
            }
        )

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Where the result goes."""
        return self.folder / "adapter"

    @property
    def result(self) -> Path:
        """The file that is written last: with it the training is done."""
        return self.folder / "result.json"
