"""The folders that tools can read. All other paths are refused."""

from __future__ import annotations

from pathlib import Path

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.settings import comma_separated


@dataclass(frozen=True, slots=True)
class Folders:
    """The allowed folders. ``roots`` maps each folder's name to its absolute path with all links resolved."""

    roots: dict[str, Path]

    @classmethod
    def of(cls, folder_list: str) -> Folders:
        """Parse the setting ``tool_folders``: paths separated by commas. Duplicate names get a number."""
        roots: dict[str, Path] = {}
        for text in comma_separated(folder_list):
            path = Path(text).expanduser().resolve()
            name, number = path.name or "root", 1
            while name in roots:
                number += 1
                name = f"{path.name}-{number}"
            roots[name] = path
        return cls(roots)

    def find(self, path_text: str) -> Path:
        """Return the file or folder for ``FOLDER/…`` or an absolute path, following links.

        Raise `InvalidRequest` for a path outside the folders, `NotFound` if it does not exist.
        """
        if "\0" in path_text:
            raise InvalidRequest("A path must not contain a NUL character.", param="path")
        first, _, remainder = path_text.strip("/").partition("/")
        path = (
            Path(path_text)
            if Path(path_text).is_absolute()
            else self.roots.get(first, Path("/nowhere")) / remainder
        )
        try:
            found_path = path.resolve(strict=True)
        except (OSError, RuntimeError):
            found_path = None
        inside = (found_path or path.absolute()).is_relative_to
        if ".." in path.parts or not any(inside(root) for root in self.roots.values()):
            raise InvalidRequest(
                f"'{path_text[:200]}' is not in a readable folder. Readable folders: {', '.join(self.roots)}.",
                code="outside_folders",
                param="path",
            )
        if found_path is None:
            raise NotFound(f"'{path_text[:200]}' does not exist.", code="file_not_found", param="path")
        return found_path

    def name(self, path: Path) -> str:
        """Return the name of a path for tools: ``FOLDER/…``."""
        for name, root in self.roots.items():
            if path == root:
                return name
            if path.is_relative_to(root):
                return f"{name}/{path.relative_to(root).as_posix()}"
        return path.name
