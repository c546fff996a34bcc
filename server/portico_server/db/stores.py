"""Rows of stores and of their files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from sqlalchemy import Connection, Select, and_, bindparam, func, insert, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError

from portico.schemas.stores import FileCounts
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.core.file_labels import FileLabels
from portico_server.core.principal import Principal
from portico_server.core.request import Filter
from portico_server.db import chunks, guard_questions, reviewed_files
from portico_server.db import files as file_rows
from portico_server.db.enforcement import require_enforced
from portico_server.db.files import MIRRORED_OWNER
from portico_server.db.names import claim_of, lock, require_free
from portico_server.db.rows import DriverQuery, Order, RowPage, Rows
from portico_server.db.runs import FOR
from portico_server.db.schema import files, group_files, store_files, stores
from portico_server.db.store_index import EMBEDDED, IndexName

if TYPE_CHECKING:
    from portico_server.db.database import Database

FileStatus: TypeAlias = Literal["in_progress", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A store. An ``owner`` of ``None`` means shared. ``folder`` is the mirrored folder. ``claim`` is the result of
    `claim_of` for owner and name, or ``None`` if ``name`` is only a title and clients refer to the store by its id.

    ``last_change`` is the number of its last change. If ``paused``, changes in the folder are ignored.
    ``next_embedding_model`` is the model whose vectors are being computed; it will replace ``embedding_model``.
    ``source`` is mirrored instead of a folder. ``vector_weight`` is the measured weight of the vectors relative to the
    words. ``answers`` sets how the store's app answers: ``auto``, ``write`` or ``quote``.

    With ``links``, the store's chunks are linked by the names in them. ``linked_to`` is the last chunk processed after
    a change of ``links``, or ``None`` if no work remains. With ``keep_removed``, files remain after they were removed
    from the source. ``search`` sets how the store's app searches. ``guard`` is the rule for changes that turn answers
    of guard questions wrong. With ``has_review``, changed files wait for their check or for a decision. ``index`` is
    where the store's vectors are searched, and ``next_index`` the index that is being filled, which will replace it.
    ``rights`` states where the readers of its files come from, see `portico_server.features.sources.rights`.
    ``facts_of`` is the key whose facts agents remember in the store: ``None`` without facts, ``*`` for several keys.
    """

    id: str
    name: str
    description: str
    owner: str | None
    folder: str | None
    app: bool
    embedding_model: str
    metadata: Mapping[str, str]
    expires_after_days: int | None
    last_active_at: float
    created_at: float
    last_change: int = 0
    paused: bool = False
    next_embedding_model: str | None = None
    source: Mapping[str, Any] | None = None
    vector_weight: float | None = None
    claim: str | None = None
    answers: str = "auto"
    links: bool = False
    linked_to: int | None = None
    keep_removed: bool = False
    search: Mapping[str, Any] | None = None
    guard: str = "hold"
    has_review: bool = False
    index: IndexName = EMBEDDED
    next_index: IndexName | None = None
    rights: str | Mapping[str, Sequence[str]] | Mapping[str, Mapping[str, Sequence[str]]] | None = None
    facts_of: str | None = None

    @property
    def expires_at(self) -> float | None:
        """When the store expires if nobody uses it, in seconds since 1970."""
        if self.expires_after_days is None:
            return None
        return self.last_active_at + self.expires_after_days * 86_400

    def condition_for(self, caller: Principal) -> Filter | None:
        """Return the condition that the files of this store must meet for ``caller``; ``None`` permits all files."""
        has_rights = self.rights is not None
        return caller.condition(self.id, self.name, self.owner, has_rights=has_rights, facts_of=self.facts_of)

    @property
    def work(self) -> dict[str, Any]:
        """The payload for a run that works on this store: the store, and the key on whose behalf the run works."""
        return {"store": self.id, FOR: self.owner}

    def work_for(self, key: str | None) -> dict[str, Any]:
        """Return `work` with ``key`` as the key on whose behalf the run works, if the store is shared."""
        return {**self.work, FOR: self.owner or key}


def file_counts(states: Mapping[str, int]) -> FileCounts:
    """Return the number of files in each state, including the states that ``states`` lacks, and the total."""
    numbers = {state: states.get(state, 0) for state in get_args(FileStatus)}
    return FileCounts(**numbers, total=sum(numbers.values()))


@dataclass(frozen=True, slots=True)
class StoreFileRow:
    """A file in a store, with the columns of the file itself (``filename``, ``bytes``, ``sha256``, and its owner).

    ``readers`` are sets of groups: in a store with rights, a caller needs a group of each set. ``None`` means nobody.
    """

    store_id: str
    file_id: str
    status: FileStatus
    error_code: str | None
    error_message: str | None
    attributes: Mapping[str, str | float | bool]
    chunking: Mapping[str, Any]
    usage_bytes: int
    created_at: float
    source_mtime_ns: int | None
    source_size: int | None
    filename: str
    bytes: int
    sha256: str
    uploader: str | None = None
    readers: Sequence[Sequence[str]] | None = None

    @property
    def mirrored(self) -> bool:
        """Return whether the file was mirrored from the store's source."""
        return self.uploader is not None and self.uploader.startswith(MIRRORED_OWNER)

    @property
    def whose(self) -> str | None:
        """The key that uploaded the file; ``None`` for files of the operator, and for mirrored files."""
        return None if self.mirrored else self.uploader


SIMILAR_NAME_COUNT: Final = 16
"""Number of names before, and of names after a wrong name that are compared with it."""

_STORES = Rows(stores, StoreRow)
_FILE = [store_files.c[name] for name in list(StoreFileRow.__dataclass_fields__)[:11]] + [
    files.c.filename,
    files.c.bytes,
    files.c.sha256,
    files.c.owner.label("uploader"),
    store_files.c.readers,
]
_JOINED = store_files.join(files, files.c.id == store_files.c.file_id)


def file_columns() -> list[Any]:
    """Return the columns of `StoreFileRow`, for a query that joins ``store_files`` and ``files``."""
    return list(_FILE)


def add(connection: Connection, row: StoreRow) -> bool:
    """Add a store; return ``False`` if its name is already in use. Raise `Conflict` if an older daemon ignores its
    rights.
    """
    if row.rights is not None:
        require_enforced(connection, "rights")
    try:
        with connection.begin_nested():
            _STORES.add(connection, row)
            _require_free(connection, row.id)
    except (Conflict, IntegrityError):
        return False
    return True


def _require_free(connection: Connection, store_id: str) -> None:
    """Raise `Conflict` if a store that was just written has a name that another object already has."""
    row = get(connection, store_id)
    if row is None or row.claim is None:
        return
    if row.app:
        require_free(connection, row.owner, row.name, "store")
    lock(connection, row.name)
    if row.owner is not None and by_name(connection, row.name, None) is not None:
        raise Conflict(f"'{row.name}' is a shared store.", code="name_taken", param="name")


get = _STORES.get

_BY_ID = DriverQuery(_STORES.select.where(stores.c.id == bindparam("store")))
_BY_CLAIMS = DriverQuery(
    _STORES.select.where(stores.c.claim.in_((bindparam("own_claim"), bindparam("shared_claim"))))
)


async def fetch(database: Database, store_id: str) -> StoreRow | None:
    """Return a store as `get` does, but by `Database.fetch`."""
    return next(iter(_STORES.of(await database.fetch(_BY_ID, store=store_id))), None)


async def fetch_named(
    database: Database, name: str, owner: str | None
) -> tuple[StoreRow | None, StoreRow | None]:
    """Return the store of a name that belongs to exactly this owner, and the shared store of this name."""
    claims = claim_of(owner, name), claim_of(None, name)
    rows = await database.fetch(_BY_CLAIMS, own_claim=claims[0], shared_claim=claims[1])
    stores_by_claim = {row.claim: row for row in _STORES.of(rows)}
    return stores_by_claim.get(claims[0]), stores_by_claim.get(claims[1])


def by_name(connection: Connection, name: str, owner: str | None) -> StoreRow | None:
    """Return the store of a name that belongs to exactly this owner; ``None`` as the owner means shared stores."""
    return _STORES.first(connection, _STORES.select.where(stores.c.claim == claim_of(owner, name)))


def claims(connection: Connection) -> set[str]:
    """Return the claims (see `claim_of`) of the stores that belong to keys."""
    query = select(stores.c.claim).where(stores.c.owner.is_not(None), stores.c.claim.is_not(None))
    return set(connection.execute(query).scalars())


def oldest_titled(connection: Connection, name: str, owner: str | None) -> StoreRow | None:
    """Return this owner's oldest store whose title is ``name`` and that has no name of its own."""
    query = _STORES.select.where(stores.c.name == name, stores.c.claim.is_(None))
    query = query.where(stores.c.owner.is_(None) if owner is None else stores.c.owner == owner)
    return _STORES.first(connection, query.order_by(stores.c.id).limit(1))


def visible(
    connection: Connection, owner: str | None, *, include_all: bool = False, only_apps: bool = False
) -> list[StoreRow]:
    """Return the stores of ``owner`` and the shared stores, or with ``include_all`` all stores, oldest first;
    ``only_apps``: only stores with an app.
    """
    query = _STORES.select.order_by(stores.c.id)
    if only_apps:
        query = query.where(stores.c.app)
    if not include_all:
        query = query.where(or_(stores.c.owner.is_(None), stores.c.owner == owner))
    return _STORES.every(connection, query)


def page(
    connection: Connection,
    owner: str | None,
    order: Order,
    limit: int,
    *,
    include_all: bool = False,
    after_id: str | None = None,
    before_id: str | None = None,
    query: str = "",
) -> list[StoreRow]:
    """Return the first ``limit`` stores of `visible`, in the order of their ids, of those between two ids whose names
    contain ``query``.
    """
    selection = _STORES.select.order_by(stores.c.id if order == "asc" else stores.c.id.desc()).limit(limit)
    if not include_all:
        selection = selection.where(or_(stores.c.owner.is_(None), stores.c.owner == owner))
    if query:
        selection = selection.where(stores.c.name.icontains(query, autoescape=True))
    for cursor, is_begin in ((after_id, order == "asc"), (before_id, order == "desc")):
        if cursor is not None:
            selection = selection.where(stores.c.id > cursor if is_begin else stores.c.id < cursor)
    return _STORES.every(connection, selection)


def count(connection: Connection, owner: str, *, include_all: bool = False) -> int:
    """Return the number of stores in `visible`."""
    query = select(func.count()).select_from(stores)
    if not include_all:
        query = query.where(or_(stores.c.owner.is_(None), stores.c.owner == owner))
    return int(connection.execute(query).scalar() or 0)


def own_names(connection: Connection, owner: str) -> set[str]:
    """Return the names of the stores that belong to a key."""
    query = select(stores.c.name).where(stores.c.owner == owner, stores.c.claim.is_not(None))
    return set(connection.execute(query).scalars())


def similar(connection: Connection, name: str, owner: str) -> list[StoreRow]:
    """Return the stores of ``owner`` and the shared stores whose names stand next to ``name`` in the alphabet."""
    found_rows: list[StoreRow] = []
    for group_owner in (owner, None):
        claim = claim_of(group_owner, name)
        is_owners = stores.c.owner.is_(None) if group_owner is None else stores.c.owner == group_owner
        # The owner is compared after the limit: otherwise an owner with few stores makes the database read all others.
        for next_claims in (
            select(stores.c.id).where(stores.c.claim >= claim).order_by(stores.c.claim),
            select(stores.c.id).where(stores.c.claim < claim).order_by(stores.c.claim.desc()),
        ):
            is_next = stores.c.id.in_(next_claims.limit(SIMILAR_NAME_COUNT))
            found_rows += _STORES.every(connection, _STORES.select.where(is_next, is_owners))
    return found_rows


def change(connection: Connection, store_id: str, values: Mapping[str, Any]) -> bool:
    """Set columns of a store; return ``False``, without a change, if a new name is already in use.

    If the rights change, nobody may read the files until the next sync has determined who may. Raise `Conflict` if an
    older daemon ignores the new rights, or the rule of a store with guard questions.
    """
    if values.get("rights") is not None:
        require_enforced(connection, "rights")
    if values.get("guard") == "hold" and guard_questions.of_store(connection, store_id):
        require_enforced(connection, "guard")
    try:
        with connection.begin_nested():
            before = get(connection, store_id) if values.get("claim") or "rights" in values else None
            connection.execute(update(stores).where(stores.c.id == store_id).values(**values))
            if before is not None and values.get("rights", before.rights) != before.rights:
                condition = store_files.c.store_id == store_id
                connection.execute(update(store_files).where(condition).values(readers=None))
            # A store keeps its existing name even if the operator now has a shared store with that name.
            if (
                before is not None
                and values.get("claim")
                and (before.claim != values["claim"] or (values.get("app", before.app) and not before.app))
            ):
                _require_free(connection, store_id)
    except (Conflict, IntegrityError):
        return False
    return True


def touch(connection: Connection, store_id: str) -> None:
    """Set the time at which a store was last used to now."""
    connection.execute(update(stores).where(stores.c.id == store_id).values(last_active_at=time.time()))


def delete_store(connection: Connection, store_id: str) -> list[str]:
    """Delete a store with all its contents; return the digests of mirrored files whose bytes are no longer needed."""
    chunks.remove_store(connection, store_id)
    connection.execute(sql_delete(stores).where(stores.c.id == store_id))
    condition = files.c.owner == f"{MIRRORED_OWNER}{store_id}"
    digests = {row.sha256 for row in connection.execute(select(files.c.sha256).where(condition))}
    connection.execute(sql_delete(files).where(condition))
    return sorted(digest for digest in digests if not file_rows.is_held(connection, digest))


def empty(connection: Connection, store_id: str) -> None:
    """Delete the chunks of an expired store, unless it was used meanwhile. Its files are indexed again when the store
    is used again.
    """
    row = get(connection, store_id)
    if row is None or row.expires_at is None or row.expires_at > time.time():
        return
    chunks.empty_store(connection, store_id)
    connection.execute(sql_delete(group_files).where(group_files.c.store_id == store_id))
    condition = and_(store_files.c.store_id == store_id, store_files.c.status == "completed")
    connection.execute(update(store_files).where(condition).values(status="in_progress", usage_bytes=0))


def counts(connection: Connection, store_ids: Iterable[str]) -> dict[str, tuple[FileCounts, int]]:
    """Return, for each store that has files, the number of files in each state and the size of its chunks in bytes."""
    states_by_store: dict[str, dict[str, int]] = {}
    used_bytes: dict[str, int] = {}
    rows = connection.execute(
        select(
            store_files.c.store_id,
            store_files.c.status,
            func.count().label("files"),
            func.sum(store_files.c.usage_bytes).label("used"),
        )
        .where(store_files.c.store_id.in_(list(store_ids)))
        .group_by(store_files.c.store_id, store_files.c.status)
    )
    for row in rows:
        states_by_store.setdefault(row.store_id, {})[row.status] = row.files
        used_bytes[row.store_id] = used_bytes.get(row.store_id, 0) + int(row.used or 0)
    return {
        store_id: (file_counts(states), used_bytes[store_id]) for store_id, states in states_by_store.items()
    }


def problems(connection: Connection, store_ids: Iterable[str]) -> dict[str, str]:
    """Return, for each store with failed files, the error of one of these files."""
    result = connection.execute(
        select(store_files.c.store_id, func.min(store_files.c.error_message).label("message"))
        .where(store_files.c.store_id.in_(list(store_ids)), store_files.c.status == "failed")
        .group_by(store_files.c.store_id)
    )
    return {row.store_id: row.message for row in result if row.message}


def attach(
    connection: Connection,
    store_id: str,
    file_id: str,
    attributes: Mapping[str, str | float | bool],
    chunking: Mapping[str, Any],
    *,
    mtime_ns: int | None = None,
    size: int | None = None,
) -> None:
    """Add a file to a store, so that it is indexed. A file that the store already contains is indexed again."""
    values: dict[str, Any] = {
        "status": "in_progress",
        "error_code": None,
        "error_message": None,
        "attributes": dict(attributes),
        "chunking": dict(chunking),
        "source_mtime_ns": mtime_ns,
        "source_size": size,
    }
    condition = and_(store_files.c.store_id == store_id, store_files.c.file_id == file_id)
    if connection.execute(update(store_files).where(condition).values(**values)).rowcount == 0:
        connection.execute(
            insert(store_files).values(
                store_id=store_id,
                file_id=file_id,
                usage_bytes=0,
                created_at=time.time(),
                review="new" if reviewed_files.begin_if_guarded(connection, store_id) else "",
                **values,
            )
        )
    touch(connection, store_id)


def attach_all(
    connection: Connection,
    store_id: str,
    items: Sequence[tuple[str, Mapping[str, str | float | bool], Mapping[str, Any]]],
) -> bool:
    """Add several files, given as (id, attributes, chunking), to a store; return ``False``, without a change, if the
    store or one of the files does not exist.
    """
    try:
        with connection.begin_nested():
            for file_id, attributes, chunking in items:
                attach(connection, store_id, file_id, attributes, chunking)
    except IntegrityError:
        return False
    return True


def file(connection: Connection, store_id: str, file_id: str) -> StoreFileRow | None:
    """Return a file of a store."""
    row = connection.execute(
        select(*_FILE)
        .select_from(_JOINED)
        .where(store_files.c.store_id == store_id, store_files.c.file_id == file_id)
    ).first()
    return StoreFileRow(**row._mapping) if row else None


def named_files(connection: Connection, store_id: str, names: Sequence[str]) -> list[StoreFileRow]:
    """Return the files in a store whose name is one of ``names``, oldest first."""
    rows = connection.execute(
        select(*_FILE)
        .select_from(_JOINED)
        .where(store_files.c.store_id == store_id, files.c.filename.in_(list(names)))
        .order_by(files.c.id)
    )
    return [StoreFileRow(**row._mapping) for row in rows]


def files_ending(
    connection: Connection, store_id: str, endings: Sequence[str], limit: int | None
) -> list[StoreFileRow]:
    """Return up to ``limit`` indexed files of a store whose names end in one of ``endings``, oldest first."""
    names = or_(*(func.lower(files.c.filename).endswith(ending, autoescape=True) for ending in endings))
    query = select(*_FILE).select_from(_JOINED).where(store_files.c.store_id == store_id, names)
    query = query.where(store_files.c.status == "completed", store_files.c.review != "new")
    return [
        StoreFileRow(**row._mapping) for row in connection.execute(query.order_by(files.c.id).limit(limit))
    ]


def changed_files(connection: Connection, store_id: str, since: float) -> list[tuple[StoreFileRow, float]]:
    """Return the indexed files of a store that changed at ``since`` or later, the newest first, with the time of the
    change: in the source, or else when the file was attached.
    """
    changed_at = func.coalesce(store_files.c.source_mtime_ns / 1e9, store_files.c.created_at)
    query = (
        select(*_FILE, changed_at.label("changed_at"))
        .select_from(_JOINED)
        .where(
            store_files.c.store_id == store_id,
            store_files.c.status == "completed",
            store_files.c.review != "new",
            changed_at >= since,
        )
        .order_by(changed_at.desc(), store_files.c.file_id)
    )
    rows = [dict(row._mapping) for row in connection.execute(query)]
    return [(StoreFileRow(**row), changed_at) for row in rows if (changed_at := row.pop("changed_at"))]


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a file in a store."""

    file_id: str
    status: FileStatus
    usage_bytes: int
    attributes: Mapping[str, str | float | bool]
    readers: Sequence[Sequence[str]] | None


def states(connection: Connection, store_id: str) -> list[FileState]:
    """Return the state of each file of a store."""
    column_collection = store_files.c
    query = select(
        column_collection.file_id,
        column_collection.status,
        column_collection.usage_bytes,
        column_collection.attributes,
        column_collection.readers,
    )
    return [
        FileState(row.file_id, row.status, int(row.usage_bytes or 0), row.attributes or {}, row.readers)
        for row in connection.execute(query.where(column_collection.store_id == store_id))
    ]


def holders(connection: Connection, file_ids: Sequence[str]) -> list[tuple[str, StoreRow, FileLabels]]:
    """Return the stores that contain ``file_ids``, as (id of the file, store, labels of the file in the store)."""
    rows = connection.execute(
        _STORES.select.add_columns(
            store_files.c.file_id, store_files.c.attributes.label("own"), store_files.c.readers
        )
        .join(stores, stores.c.id == store_files.c.store_id)
        .where(store_files.c.file_id.in_(list(file_ids)))
    )
    found_holders = []
    for row in rows:
        values = dict(row._mapping)
        labels = FileLabels(values.pop("own") or {}, values.pop("readers"))
        found_holders.append((values.pop("file_id"), labels, values))
    return [(file_id, StoreRow(**values), labels) for file_id, labels, values in found_holders]


def file_page(
    connection: Connection,
    store_id: str,
    *,
    after: StoreFileRow | None = None,
    before: StoreFileRow | None = None,
    limit: int = 20,
    order: Order = "desc",
    status: FileStatus | None = None,
    among: Sequence[str] | None = None,
) -> RowPage[StoreFileRow]:
    """Return a page of a store's files, by the time they were attached; ``among`` limits them to these files."""
    query = select(*_FILE).select_from(_JOINED).where(store_files.c.store_id == store_id)
    if status is not None:
        query = query.where(store_files.c.status == status)
    if among is not None:
        query = query.where(store_files.c.file_id.in_(among))
    rising = order == "asc"
    if after is not None:
        query = query.where(_beyond(after, forward=rising))
    if before is not None:
        query = query.where(_beyond(before, forward=not rising))
    # A page that ends before a row is read backwards from that row, then reversed.
    backwards = before is not None and after is None
    rows = _sorted_files(connection, query, rising=rising is not backwards, limit=limit + 1)
    data = rows[:limit]
    return RowPage(tuple(reversed(data)) if backwards else tuple(data), len(rows) > limit)


def _beyond(row: StoreFileRow, *, forward: bool) -> Any:
    at, file_id = store_files.c.created_at, store_files.c.file_id
    if forward:
        return or_(at > row.created_at, and_(at == row.created_at, file_id > row.file_id))
    return or_(at < row.created_at, and_(at == row.created_at, file_id < row.file_id))


def _sorted_files(
    connection: Connection, query: Select[Any], *, rising: bool, limit: int
) -> list[StoreFileRow]:
    at, file_id = store_files.c.created_at, store_files.c.file_id
    query = query.order_by(at.asc(), file_id.asc()) if rising else query.order_by(at.desc(), file_id.desc())
    return [StoreFileRow(**row._mapping) for row in connection.execute(query.limit(limit))]


def waiting(connection: Connection, store_id: str, limit: int) -> list[StoreFileRow]:
    """Return files waiting to be indexed, `in_turns`."""
    query = (
        select(*_FILE)
        .select_from(_JOINED)
        .where(store_files.c.store_id == store_id, store_files.c.status == "in_progress")
    )
    return [StoreFileRow(**row._mapping) for row in connection.execute(in_turns(query).limit(limit))]


def in_turns(query: Select[Any]) -> Select[Any]:
    """Order files for processing: the oldest file of each uploader, then the second oldest of each, and so on. So a
    key with many uploads delays another key by only one file. The query must select from ``store_files`` and
    ``files``.
    """
    age = (store_files.c.created_at, store_files.c.file_id)
    return query.order_by(func.row_number().over(partition_by=files.c.owner, order_by=age), *age)


def unfinished(connection: Connection) -> list[str]:
    """Return the ids of the stores with files waiting to be indexed."""
    query = select(store_files.c.store_id).where(store_files.c.status == "in_progress").distinct()
    return [row.store_id for row in connection.execute(query)]


_ANY_WAITING = DriverQuery(
    select(store_files.c.file_id)
    .where(store_files.c.store_id == bindparam("store"), store_files.c.status == "in_progress")
    .limit(1)
)


async def has_waiting(database: Database, store_id: str) -> bool:
    """Return whether files of a store are waiting to be indexed."""
    return bool(await database.fetch(_ANY_WAITING, store=store_id))


def waiting_files(connection: Connection) -> int:
    """Return the number of files, in all stores, that are waiting to be indexed."""
    query = select(func.count()).select_from(stores.join(store_files, store_files.c.store_id == stores.c.id))
    return int(connection.execute(query.where(store_files.c.status == "in_progress")).scalar() or 0)


def set_file(connection: Connection, store_id: str, file_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of a file in a store."""
    query = update(store_files).where(store_files.c.store_id == store_id, store_files.c.file_id == file_id)
    connection.execute(query.values(**values))


def wait_again(connection: Connection, store_id: str) -> None:
    """Mark all files of a store as waiting to be indexed."""
    binary_expression = store_files.c.status.in_(("completed", "failed"))
    connection.execute(
        update(store_files)
        .where(store_files.c.store_id == store_id, binary_expression)
        .values(status="in_progress", error_code=None, error_message=None)
    )


def detach(connection: Connection, store_id: str, file_id: str) -> bool:
    """Remove a file from a store. Return whether the store contained it."""
    chunks.remove_file(connection, store_id, file_id)
    condition = and_(store_files.c.store_id == store_id, store_files.c.file_id == file_id)
    return connection.execute(sql_delete(store_files).where(condition)).rowcount > 0
