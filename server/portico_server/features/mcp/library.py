"""The files that an MCP client can read: files in the stores that the caller may search, and files made by runs."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final, Protocol

from portico.schemas.artifacts import Artifact
from portico.schemas.stores import StoreThemes
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound, TooLarge, nearest
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card
from portico_server.runs.artifacts import ArtifactStore, to_artifact
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    from portico_server.features.files.files import FileStorage
    from portico_server.features.stores.store import StoreFileRow, StoreView
    from portico_server.features.stores.stores import StoreService

LARGEST: Final = 16 * MB_BYTES
"""Maximum size, in bytes, of a file sent in one message. Clients must fetch larger files over HTTP."""

_TEXTS: Final = frozenset(
    {
        "application/json",
        "application/xml",
        "application/javascript",
        "application/toml",
        "application/yaml",
        "application/x-sh",
        "application/x-yaml",
    }
)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of one store. ``name`` identifies the file within the store: it is the file name, or the file's id if a
    newer file has the same name.
    """

    store: str
    name: str
    filename: str
    bytes: int

    @property
    def media_type(self) -> str | None:
        """Return the media type, guessed from the file name."""
        return mimetypes.guess_type(self.filename)[0]

    @property
    def is_text(self) -> bool:
        """Return whether the file is likely to be text."""
        kind = self.media_type
        return kind is None or kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+xml", "+json"))


@dataclass(frozen=True, slots=True)
class Document:
    """The extracted text of a file of a store, and the attributes of the file."""

    filename: str
    text: str
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Position:
    """The position at which a list of files continues: in ``store``, after the file with the id ``after``."""

    store: str
    after: str | None


class Library(Protocol):
    """Files, addressed by store name and file name."""

    async def files(
        self, caller: Principal, start: Position | None, limit: int, *, only: str | None = None
    ) -> tuple[Sequence[StoredFile], Position | None]:
        """Return up to ``limit`` files from ``start`` on, and the start of the next page if there is one.

        ``only``: the store to which the list is restricted.
        """

    async def read(self, caller: Principal, store: str, name: str) -> tuple[StoredFile, bytes]:
        """Return a file and its bytes. Raises `NotFound`, `Forbidden`, `TooLarge`."""

    async def document(self, caller: Principal, store: str, file_id: str) -> Document:
        """Return the extracted text of a file. Raises `NotFound`, `Forbidden`, `InvalidRequest`, `TooLarge`."""

    async def themes(self, caller: Principal, store: str) -> StoreThemes:
        """Return what a store is about. Raises `NotFound`, `Forbidden`."""

    async def version(self, caller: Principal, store: str, name: str) -> str | None:
        """Return a value that changes whenever the file changes, or ``None`` if the file does not exist. Raise
        `NotFound` or `Forbidden` if the caller cannot read the store.
        """

    async def read_artifact(self, caller: Principal, artifact_id: str) -> tuple[Artifact, bytes]:
        """Return a file made by a run, and its bytes. Raises `NotFound`, `TooLarge`."""

    async def made_in(self, caller: Principal, run_id: str) -> Sequence[Artifact]:
        """Return the files that the caller's run made, oldest first."""


class StoreLibrary:
    """The `Library` of the daemon's stores: their indexed files, oldest first."""

    def __init__(
        self, registry: Registry, stores: StoreService, files: FileStorage, artifacts: ArtifactStore
    ) -> None:
        self._registry = registry
        self._stores = stores
        self._files = files
        self._artifacts = artifacts

    async def files(
        self, caller: Principal, start: Position | None, limit: int, *, only: str | None = None
    ) -> tuple[Sequence[StoredFile], Position | None]:
        cards = [card for card in await self._registry.cards(caller, "store") if only in (None, card.name)]
        stored_files: list[StoredFile] = []
        for card in cards:
            if start is not None and card.name < start.store:
                continue
            after = start.after if start is not None and card.name == start.store else None
            page, has_more = await self._page(card, caller, after, limit - len(stored_files))
            stored_files += [file for file, _id in page]
            if has_more or len(stored_files) == limit:
                return stored_files, Position(card.name, page[-1][1] if page else after)
        return stored_files, None

    async def _page(
        self, card: Card, caller: Principal, after: str | None, limit: int
    ) -> tuple[list[tuple[StoredFile, str]], bool]:
        """Return a page of a store's files with their ids, and whether more files follow."""
        store = await self._stores.get(str(card.labels["id"]), caller, "read")
        contents = self._stores.contents
        try:
            page = await contents.list(store, after=after, limit=limit, order="asc", status="completed")
        except NotFound:  # the file after which the page continues was deleted
            page = await contents.list(store, limit=limit, order="asc", status="completed")
        newest = await contents.by_name(store, [row.filename for row in page.data])
        newest_ids = {row.file_id for row in newest.values()}
        return [
            (_to_stored_file(card.name, row, by_name=row.file_id in newest_ids), row.file_id)
            for row in page.data
        ], page.has_more

    async def read(self, caller: Principal, store: str, name: str) -> tuple[StoredFile, bytes]:
        holder = await self._stores.get(store, caller, "read")
        row = await self._find(holder, name)
        if row is None:
            page = await self._stores.contents.list(holder, limit=1_000)
            filenames = [item.filename for item in page.data]
            raise NotFound(
                f"The store '{store}' has no file '{name[:200]}'.{nearest(name, filenames)}",
                code="file_not_found",
                param="uri",
            )
        if row.bytes > LARGEST:
            raise TooLarge(
                f"'{row.filename}' has {row.bytes // MB_BYTES} MB; a message can contain at most "
                f"{LARGEST // MB_BYTES} MB. Fetch the file from /v1/files/{row.file_id}/content, or search "
                "the store.",
                param="uri",
            )
        contents = self._stores.contents
        await contents.require_readable(await contents.source(holder, row.file_id), caller)
        async with self._files.open(row.sha256) as path:
            data = await pools.FILES.run(path.read_bytes)
        return _to_stored_file(store, row, by_name=True), data

    async def document(self, caller: Principal, store: str, file_id: str) -> Document:
        view = await self._stores.get(store, caller, "read")
        row = await self._stores.contents.get(view, file_id)
        parts = await self._stores.contents.text(view, file_id)
        return Document(row.filename, "\n\n".join(part.text for part in parts), row.attributes)

    async def themes(self, caller: Principal, store: str) -> StoreThemes:
        view = await self._stores.get(store, caller, "read")
        return await self._stores.read_themes(view)

    async def version(self, caller: Principal, store: str, name: str) -> str | None:
        row = await self._find(await self._stores.get(store, caller, "read"), name)
        return None if row is None else row.sha256

    async def _find(self, store: StoreView, name: str) -> StoreFileRow | None:
        """Return the newest file with the name, or the file whose id is ``name``."""
        contents = self._stores.contents
        file_row = (await contents.by_name(store, [name])).get(name)
        if file_row is not None:
            return file_row
        try:
            return await contents.get(store, name)
        except NotFound:
            return None

    async def read_artifact(self, caller: Principal, artifact_id: str) -> tuple[Artifact, bytes]:
        artifact = to_artifact(await self._artifacts.get(artifact_id, caller))
        if artifact.bytes > LARGEST:
            raise TooLarge(
                f"'{artifact.name}' has {artifact.bytes // MB_BYTES} MB; a message can contain at most "
                f"{LARGEST // MB_BYTES} MB. Fetch the file from {artifact.link}.",
                param="uri",
            )
        return artifact, await self._artifacts.read(artifact_id, caller)

    async def made_in(self, caller: Principal, run_id: str) -> Sequence[Artifact]:
        return [to_artifact(row) for row in reversed(await self._artifacts.list(caller, run_id=run_id))]


def _to_stored_file(store: str, row: StoreFileRow, *, by_name: bool) -> StoredFile:
    return StoredFile(store, row.filename if by_name else row.file_id, row.filename, row.bytes)
