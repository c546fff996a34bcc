"""Rules for the files in a folder to ignore: ``.gitignore`` and ``.porticoignore``, both in the syntax of
``.gitignore``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico_server.core.dataclass import dataclass

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec, PathSpec


IGNORE_FILES = (".gitignore", ".porticoignore")
"""Ignore files, in the order in which they are read in a folder. A later file overrides an earlier one, and the files
of a deeper folder override those of outer folders.
"""

MAX_IGNORE_FILE_BYTES = 1_000_000
"""Maximum number of bytes read of an ignore file."""


class IgnoreRules:
    """The ignore rules that apply in a folder: its own, and those of its parent folders up to the followed folder."""

    def __init__(self, levels: tuple[tuple[Path, IgnorePatterns], ...] = ()) -> None:
        self._levels = levels

    def below(self, folder: Path, names: Collection[str]) -> IgnoreRules:
        """Return the rules that apply in ``folder``, a subfolder that contains files with these ``names``."""
        lines: list[str] = []
        for name in IGNORE_FILES:
            if name in names:
                lines += _ignore_lines(folder / name)
        return IgnoreRules(((folder, _compile_patterns(lines)), *self._levels)) if lines else self

    def ignores(self, place: str, *, folder: bool) -> bool:
        """Return whether a file is ignored, or a folder if ``folder`` is set."""
        if not self._levels:
            return False
        path = Path(place)
        for base, patterns in self._levels:
            # The patterns match UTF-8 only, and surrogates stand for other bytes in a name.
            name = path.relative_to(base).as_posix().encode(errors="replace").decode()
            spec = patterns.folders if folder else patterns.files
            is_included = spec.check_file(f"{name}/" if folder else name).include
            if is_included is not None:
                return is_included
        return False


@dataclass(frozen=True, slots=True)
class IgnorePatterns:
    """The patterns of one folder's ignore files. ``folders`` matches only folders, and ``files`` only files."""

    folders: PathSpec[Any]
    files: GitIgnoreSpec


def _ignore_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MAX_IGNORE_FILE_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []  # an unreadable ignore file sets no rules


def _compile_patterns(lines: list[str]) -> IgnorePatterns:
    # Only folders with an ignore file need the package, so it is not imported when the daemon starts.
    from pathspec import GitIgnoreSpec, PathSpec

    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            continue  # an invalid line, such as a lone "!", which Git ignores too
        good.append(line)
    return IgnorePatterns(PathSpec.from_lines("gitignore", good), GitIgnoreSpec.from_lines(good))
