"""What clients uploaded and runs made, by its id."""

from __future__ import annotations

from dataclasses import dataclass

from portico_server.core import pools
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.knowledge.files import Files
from portico_server.runs.artifacts import ArtifactStore

MADE = "art_"
"""What the ids of files begin with that runs made."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Both kinds of files under one roof, as ``/v1/files`` has them."""

    files: Files
    artifacts: ArtifactStore

    async def read(self, file_id: str, caller: Principal) -> tuple[str, bytes]:
        """Name and content of a file. Raises `NotFound`."""
        if file_id.startswith(MADE):
            made = await self.artifacts.get(file_id, caller)
            return made.name, await self.artifacts.read(file_id, caller)
        row = await self.files.get(file_id, caller)
        try:
            return row.filename, await pools.FILES.run(self.files.path(row).read_bytes)
        except FileNotFoundError as error:
            raise NotFound(
                f"The bytes of '{row.filename}' are no longer on this machine. Upload it again.",
                code="file_content_missing",
                param="file_id",
            ) from error
