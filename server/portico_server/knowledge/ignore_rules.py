"""Files that a folder asks to leave alone: ``.gitignore`` and ``.porticoignore``, in the syntax of the first."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico_server.core.dataclass import dataclass

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec, PathSpec


IGNORE_FILES = (".gitignore", ".porticoignore")
"""Read in this order in every folder: what the later one says counts, and what a deeper folder says counts more."""

MAX_IGNORE_FILE_BYTES = 1_000_000
"""Bytes of such a file that are read."""


class IgnoreRules:
    """The ignore files of a folder and of those above it, up to the followed one."""

    def __init__(self, levels: tuple[tuple[Path, IgnorePatterns], ...] = ()) -> None:
        self._levels = levels

    def below(self, folder: Path, names: Collection[str]) -> IgnoreRules:
        """The rules in ``folder``, which holds files of these ``names``."""
        lines: list[str] = []
        for name in IGNORE_FILES:
            if name in names:
                lines += _ignore_lines(folder / name)
        return IgnoreRules(((folder, _compile_patterns(lines)), *self._levels)) if lines else self

    def ignores(self, place: str, *, folder: bool) -> bool:
        """Whether a file or a ``folder`` is to be left alone."""
        if not self._levels:
            return False
        path = Path(place)
        for base, patterns in self._levels:
            name = path.relative_to(base).as_posix()
            spec = patterns.folders if folder else patterns.files
            is_included = spec.check_file(f"{name}/" if folder else name).include
            if is_included is not None:
                return is_included
        return False


@dataclass(frozen=True, slots=True)
class IgnorePatterns:
    """The lines of one folder. A line for folders alone says nothing of the files in them, and the other way round."""

    folders: PathSpec[Any]
    files: GitIgnoreSpec


def _ignore_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MAX_IGNORE_FILE_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []  # what cannot be read says nothing


def _compile_patterns(lines: list[str]) -> IgnorePatterns:
    # Only folders that have such a file need the package: it is not imported when the daemon starts.
    from pathspec import GitIgnoreSpec, PathSpec

    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue  # a lone "!": git leaves such a line out, too
        good.append(line)
    return IgnorePatterns(PathSpec.from_lines("gitignore", good), GitIgnoreSpec.from_lines(good))
