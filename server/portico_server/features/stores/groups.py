"""Chunk groups: the same files chunked in other ways, arranged as a tree. Groups can be changed while the store is
served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from portico.schemas.chunks import ChunkGroup
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, nearest
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.db import groups as rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.groups import GroupCounts, GroupRow
from portico_server.db.stores import StoreRow
from portico_server.features.chunkers.chunkers import check_chunking, is_late, needs_model
from portico_server.features.stores.contents import StoreContents
from portico_server.features.stores.generated import GroupGenerator
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.model_check import check_model
from portico_server.features.stores.store import StoreView

MAX_GROUPS = 16
"""Maximum number of groups in a store."""

MAX_NAMED_FAILURES = 100
"""Maximum number of failed files that the list of a store's groups names."""

_STRATEGY_FIELDS = ("size", "overlap", "model", "percentile")
"""Fields of a chunking strategy that a configuration can contain in addition to the chunker's name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _tokens(size: int, overlap: int) -> dict[str, Any]:
    return {
        "type": "static",
        "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap},
    }


PRESETS: Mapping[str, tuple[dict[str, Any], str]] = {
    "CoarseChunk": (_tokens(1024, 100), ""),
    "MediumChunk": (_tokens(256, 25), "CoarseChunk"),
    "FineChunk": (_tokens(128, 12), "MediumChunk"),
}
"""Predefined groups, which need only a name: (chunking, name of the parent if the store has a group of that name)."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group in a configuration. ``chunking`` has the same form as in a request. ``embedding_model`` is a name, ""
    for no model, or ``None`` for the store's own model.
    """

    name: str
    chunking: Mapping[str, Any] | None = None
    parent: str | None = None
    embedding_model: str | None = None


class Groups:
    """Manages chunk groups. The caller must get a `StoreView` from `Stores.get` for ``read`` or ``manage``, which
    checks the rights.
    """

    def __init__(
        self,
        database: Database,
        contents: StoreContents,
        indexes: IndexManager,
        making: GroupGenerator,
        registry: Registry,
    ) -> None:
        self._database = database
        self._contents = contents
        self._indexes = indexes
        self._making = making
        self._registry = registry

    async def add(
        self,
        store: StoreRow,
        name: str,
        *,
        chunking: Any = None,
        parent: str | None = None,
        embedding_model: str | None = None,
        caller: Principal = SYSTEM,
    ) -> tuple[GroupRow, str]:
        """Start generating a group for all files of a store in the background. Return its row and the id of the run.

        ``chunking`` has the same form as in a request; the default is the one in `PRESETS` for this name, or ``auto``.
        ``parent`` names a group of the store whose chunks contain those of the new group. ``embedding_model`` must
        already be validated; ``None`` means the store's own. ``caller`` must be allowed to call the model that writes
        the chunks.
        """
        if _NAME.fullmatch(name) is None or name == DEFAULT_GROUP:
            raise InvalidRequest(
                f"'{name[:64]}' is not a valid name for a group: use up to 64 letters, digits, - and _, and "
                f"not '{DEFAULT_GROUP}', which every store has.",
                param="name",
            )
        group_rows = await self._database.read(rows.of_store, store.id)
        names = [DEFAULT_GROUP, *(row.name for row in group_rows)]
        if len(group_rows) >= MAX_GROUPS:
            raise InvalidRequest(f"The store already has the maximum of {MAX_GROUPS} groups.", param="name")
        preset, above = PRESETS.get(name, (None, ""))
        if parent is None:
            parent = above if above in names else ""
        if parent and parent not in names:
            raise _unknown(parent, names, "parent")
        checked_chunking = check_chunking(chunking or preset, by_model=True)
        if is_late(checked_chunking) and embedding_model is None:
            # Late vectors depend on the whole document, so they cannot be recomputed from chunks. A group
            # with them therefore keeps its model when the store's model changes.
            embedding_model = store.embedding_model
        row = rows.new(store.id, name, parent, checked_chunking, embedding_model)
        if needs_model(checked_chunking):
            await check_model(checked_chunking, row.model(store.embedding_model), self._registry, caller)
        if not await self._database.write(rows.add, row):
            raise Conflict(
                f"The store already has a group '{name}'. Remove it before adding it again.",
                code="name_taken",
                param="name",
            )
        return row, await self._queue(store, row)

    async def apply(self, store: StoreRow, group_specs: Sequence[GroupSpec]) -> list[str]:
        """Generate the groups of a configuration that are missing in a store or differ there. Return the ids of the
        runs.

        A group with other chunking or another parent is rebuilt, together with the groups of ``group_specs`` below it.
        Other groups are left unchanged.
        """
        runs: list[str] = []
        rebuilt: set[str] = set()
        for spec in group_specs:
            group_rows = {row.name: row for row in await self._database.read(rows.of_store, store.id)}
            group_row = group_rows.get(spec.name)
            if group_row is not None and spec.name not in rebuilt:
                if _is_as(group_row, spec):
                    continue
                rebuilt |= await self._clear(
                    store, spec.name, group_rows, {item.name for item in group_specs}
                )
            _, run = await self.add(
                store,
                spec.name,
                chunking=spec.chunking,
                parent=spec.parent,
                embedding_model=spec.embedding_model,
            )
            runs.append(run)
        return list(dict.fromkeys(runs))

    async def differing(self, store: StoreRow, group_specs: Sequence[GroupSpec]) -> list[str]:
        """Return the names of the groups in a configuration that are missing in a store or differ there."""
        group_rows = {row.name: row for row in await self._database.read(rows.of_store, store.id)}
        return [
            spec.name
            for spec in group_specs
            if spec.name not in group_rows or not _is_as(group_rows[spec.name], spec)
        ]

    async def _clear(
        self, store: StoreRow, name: str, group_rows: Mapping[str, GroupRow], rebuilt_groups: set[str]
    ) -> set[str]:
        """Remove a group and the groups below it, innermost first. Raise `Conflict` if a group would not be rebuilt."""
        cleared_groups: set[str] = set()
        for inside in [row.name for row in group_rows.values() if row.parent == name]:
            if inside not in rebuilt_groups:
                raise Conflict(
                    f"The configuration changes the group '{name}' of the store '{store.name}', but the "
                    f"group '{inside}' depends on it. Add the dependent group to the configuration too, or "
                    "remove it.",
                    param="groups",
                )
            cleared_groups |= await self._clear(store, inside, group_rows, rebuilt_groups)
        await self.remove(store, name)
        return cleared_groups | {name}

    async def retry(self, store: StoreRow) -> list[str]:
        """Retry the files that failed in any group of a store. Return the ids of the runs, if any."""
        failed_groups = {
            group for group, _, _ in await self._database.read(rows.failures, store.id, MAX_NAMED_FAILURES)
        }
        if not failed_groups:
            return []
        await self._database.write(rows.retry, store.id)
        group_rows = await self._database.read(rows.of_store, store.id)
        runs = [await self._queue(store, row) for row in group_rows if row.name in failed_groups]
        return list(dict.fromkeys(runs))

    async def _queue(self, store: StoreRow, row: GroupRow) -> str:
        if needs_model(row.chunking):
            return await self._making.queue(store)
        return await self._contents.queue(store)

    async def remove(self, store: StoreRow, name: str) -> None:
        """Remove a group with its chunks, vectors and index. Raise `Conflict` if it is the parent of another group."""
        group_rows = await self._database.read(rows.of_store, store.id)
        if name == DEFAULT_GROUP:
            raise Conflict(
                f"The group '{DEFAULT_GROUP}' exists in every store and cannot be removed.", param="group"
            )
        if name not in (row.name for row in group_rows):
            raise _unknown(name, [row.name for row in group_rows], "group")
        inside = [row.name for row in group_rows if row.parent == name]
        if inside:
            raise Conflict(
                f"The group '{name}' is the parent of {', '.join(inside)}: remove the child groups first.",
                param="group",
            )
        await self._database.write(rows.remove, store.id, name)
        await self._indexes.drop(store.id, name)

    async def list(self, store: StoreView, files: int) -> Sequence[ChunkGroup]:
        """List the groups of a store, its own chunks first, with counts limited to files that the caller may read.

        ``files`` is the number of completed files that the caller may read.
        """
        permitted_files = None if store.whole else await self._contents.permitted(store)
        counts = await self._database.read(rows.counts, store.id, permitted_files)
        chunk_group = ChunkGroup(
            DEFAULT_GROUP,
            "",
            {"type": "auto"},
            store.embedding_model,
            files,
            0,
            0,
            counts[DEFAULT_GROUP].chunks,
        )
        chunk_groups = [chunk_group]
        errors: dict[str, list[tuple[str, str]]] = {}
        for group, filename, error in await self._database.read(
            rows.failures, store.id, MAX_NAMED_FAILURES, permitted_files
        ):
            errors.setdefault(group, []).append((filename, error))
        for row in await self._database.read(rows.of_store, store.id):
            count = counts.get(row.name, GroupCounts())
            chunk_groups.append(
                ChunkGroup(
                    row.name,
                    row.parent,
                    row.chunking,
                    row.model(store.embedding_model),
                    count.completed,
                    count.failed,
                    max(0, files - count.completed - count.failed),
                    count.chunks,
                    tuple(errors.get(row.name, ())),
                )
            )
        return chunk_groups


def parse_group(item: Mapping[str, Any], at: str) -> GroupSpec:
    """Parse a group from a configuration; ``at`` is its position, for errors. Raise `InvalidRequest` that names the
    invalid field.

    A group has a ``name`` and optionally ``parent`` and ``embedding_model``. Its chunking is either a ``strategy``
    with the fields of that chunker, or a complete ``chunking_strategy``.
    """
    known_fields = ("name", "parent", "embedding_model", "chunking_strategy", "strategy", *_STRATEGY_FIELDS)
    for key, value in item.items():
        if key not in known_fields:
            raise InvalidRequest(
                f"Unknown field '{key}' in {at}.{nearest(str(key), known_fields)}", param=f"{at}.{key}"
            )
        if key in ("parent", "embedding_model", "strategy") and not isinstance(value, str):
            raise InvalidRequest(f"{at}.{key} must be text, not {value!r}.", param=f"{at}.{key}")
    chunking = item.get("chunking_strategy")
    strategy_fields = {key: item[key] for key in _STRATEGY_FIELDS if key in item}
    if "strategy" in item and chunking is None:
        chunking = {"type": item["strategy"], **strategy_fields}
    elif strategy_fields or "strategy" in item:
        raise InvalidRequest(
            f"{at} needs a 'strategy' instead of a 'chunking_strategy' for "
            f"{', '.join(strategy_fields) or 'that'}.",
            param=f"{at}.strategy",
        )
    try:
        check_chunking(chunking, by_model=True)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{at}: {error.message}", code=error.code, param=f"{at}.{error.param}"
        ) from error
    return GroupSpec(str(item["name"]), chunking, item.get("parent"), item.get("embedding_model"))


def _is_as(row: GroupRow, spec: GroupSpec) -> bool:
    """Return whether a group matches its configuration. If the configuration sets no parent, any parent matches;
    without chunking or an embedding model, the group must have the default.
    """
    preset, _ = PRESETS.get(spec.name, (None, ""))
    chunking = check_chunking(spec.chunking or preset, by_model=True)
    # late vectors stay valid, whichever model computed them
    is_kept = spec.embedding_model is None and is_late(chunking)
    return (
        row.chunking == chunking
        and (spec.parent is None or row.parent == spec.parent)
        and (is_kept or row.embedding_model == spec.embedding_model)
    )


def _unknown(name: str, known_groups: Sequence[str], param: str) -> NotFound:
    return NotFound(
        f"The store has no group '{name[:64]}'.{nearest(name, known_groups)} Available groups: "
        f"{', '.join(known_groups) or 'none'}.",
        code="group_not_found",
        param=param,
    )
