"""Files that a folder asks to leave alone: ``.gitignore`` and ``.porticoignore``, in the syntax of the first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec, PathSpec

FILES = (".gitignore", ".porticoignore")
"""Read in this order in every folder: what the later one says counts, and what a deeper folder says counts more."""

LONGEST = 1_000_000
"""Bytes of such a file that are read."""


class Rules:
    """The ignore files of a folder and of those above it, up to the followed one."""

    def __init__(self, levels: tuple[tuple[Path, Patterns], ...] = ()) -> None:
        self._levels = levels

    def below(self, folder: Path, names: Collection[str]) -> Rules:
        """The rules in ``folder``, which holds files of these ``names``."""
        lines: list[str] = []
        for name in FILES:
            if name in names:
                lines += _lines(folder / name)
        return Rules(((folder, _patterns(lines)), *self._levels)) if lines else self

    def ignores(self, place: str, *, folder: bool) -> bool:
        """Whether a file or a ``folder`` is to be left alone."""
        if not self._levels:
            return False
        path = Path(place)
        for base, patterns in self._levels:
            name = path.relative_to(base).as_posix()
            spec = patterns.folders if folder else patterns.files
            said = spec.check_file(f"{name}/" if folder else name).include
            if said is not None:
                return said
        return False


@dataclass(frozen=True, slots=True)
class Patterns:
    """The lines of one folder. A line for folders alone says nothing of the files in them, and the other way round."""

    folders: PathSpec[Any]
    files: GitIgnoreSpec


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST).decode(errors="replace").splitlines()
    except OSError:
        return []  # what cannot be read says nothing


def _patterns(lines: list[str]) -> Patterns:
    # Only folders that have such a file need the package: it is not imported when the daemon starts.
    from pathspec import GitIgnoreSpec, PathSpec

    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue  # a lone "!": git leaves such a line out, too
        good.append(line)
    return Patterns(PathSpec.from_lines("gitignore", good), GitIgnoreSpec.from_lines(good))
