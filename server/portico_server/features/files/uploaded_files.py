"""Files by id, both uploaded by clients and created by runs."""

from __future__ import annotations

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound, TooLarge
from portico_server.core.principal import Principal
from portico_server.features.files.files import FileStorage
from portico_server.runs.artifacts import ArtifactStore

ARTIFACT_PREFIX = "art_"
"""Prefix of the ids of files that runs created."""


@dataclass(frozen=True, slots=True)
class UploadedFiles:
    """Files that clients uploaded and files that runs created, behind one interface as in ``/v1/files``."""

    files: FileStorage
    artifacts: ArtifactStore

    async def read(
        self, file_id: str, caller: Principal, *, limit: int, param: str | None = None
    ) -> tuple[str, bytes]:
        """Return the name and content of a file. Raises `NotFound`, and `TooLarge` if the file has more than ``limit``
        bytes.

        ``param`` is the request parameter with the file id, for errors.
        """
        try:
            return await self._read(file_id, caller, limit)
        except (NotFound, TooLarge) as error:
            error.param = param or error.param
            raise

    async def _read(self, file_id: str, caller: Principal, limit: int) -> tuple[str, bytes]:
        if file_id.startswith(ARTIFACT_PREFIX):
            artifact_row = await self.artifacts.get(file_id, caller)
            _require_small(artifact_row.name, artifact_row.bytes, limit)
            return artifact_row.name, await self.artifacts.read(file_id, caller)
        row = await self.files.readable(file_id, caller)
        _require_small(row.filename, row.bytes, limit)
        try:
            async with self.files.open(row.sha256) as path:
                return row.filename, await pools.FILES.run(path.read_bytes)
        except FileNotFoundError as error:
            raise self.files.missing(row) from error


def _require_small(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"'{name[:80]}' has {size:,} bytes; the limit is {limit:,}.", code="file_too_large")
