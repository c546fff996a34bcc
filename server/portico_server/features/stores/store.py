"""One store: as a caller may see the store (`StoreView`), and as a servable that answers searches."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Any, Protocol, get_args

from portico.schemas.stores import FileCounts, StoreThemes
from portico.wire import Progressed
from portico_server.core import filter as filters
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest, nearest
from portico_server.core.file_labels import FileLabels
from portico_server.core.filter import Labelled
from portico_server.core.principal import Principal
from portico_server.core.registry import Content, Registry
from portico_server.core.request import (
    AUTO_RERANKER,
    Attributes,
    Filter,
    Request,
    Search,
    SearchResult,
    Steps,
    StoreRequest,
)
from portico_server.core.servable import Card
from portico_server.core.tables import ComputedValue, FindTables, TableList, TableQuery
from portico_server.core.themes import ChangedFiles, FindChangedFiles, FindThemes
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.file_batches import FileBatchRow as FileBatchRow
from portico_server.db.store_index import EMBEDDED as EMBEDDED
from portico_server.db.store_index import IndexName as IndexName
from portico_server.db.stores import FileStatus as FileStatus
from portico_server.db.stores import StoreFileRow as StoreFileRow
from portico_server.db.stores import StoreRow as StoreRow
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.search import Condition, Searcher
from portico_server.features.stores.steps import MAX_STEPS, check_steps

_SEARCH_FIELDS = ("steps", "max_tokens", "max_seconds", "max_calls", "reranker")

INDEXES = get_args(IndexName)
"""Where the vectors of a store can be."""

ANSWERS = ("auto", "write", "quote")
"""How the app of a store may answer. ``auto`` means that the self-test of its model decides."""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store with information about its contents.

    ``name`` is the store's name in the registry, and ``usage_bytes`` the size of its chunks. ``problem`` explains why
    files could not be indexed, with the error message of one such file.
    """

    row: StoreRow
    name: str
    counts: FileCounts
    usage_bytes: int
    problem: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Number of files and folders that the last scan of the store's source skipped, by reason."""

    @property
    def status(self) -> str:
        """The status, as OpenAI names it: ``expired``, ``in_progress`` or ``completed``."""
        if is_expired(self.row):
            return "expired"
        return "in_progress" if self.counts.in_progress else "completed"


def is_expired(row: StoreRow) -> bool:
    """Return whether the store has not been used for longer than its expiry period."""
    return row.expires_at is not None and row.expires_at <= time.time()


class ReadsTables(Protocol):
    """Reads the tables in the files of stores: `portico_server.features.stores.store_tables.StoreTables`."""

    async def find(self, store_id: str, condition: Filter | None, request: FindTables) -> TableList:
        """Return the tables that share a word with a question, from files that meet ``condition``."""

    async def compute(
        self, store_id: str, store_name: str, condition: Filter | None, query: TableQuery
    ) -> ComputedValue:
        """Return the value of a query. Raise `NotFound` unless its file is in the store and meets ``condition``."""


class ReadsThemes(Protocol):
    """Describes whole stores: `portico_server.features.stores.themes.store_themes.ThemeReader`."""

    async def read(self, store_id: str, store_name: str, condition: Filter | None) -> StoreThemes:
        """Return the themes of a store, from files that meet ``condition``."""

    async def changed_files(
        self, store_id: str, store_name: str, condition: Filter | None, request: FindChangedFiles
    ) -> ChangedFiles:
        """Return the files of a store that changed and meet ``condition``."""


FRESH_S = 1.0
"""Seconds for which a search can use the row of the store that was read before it."""


class StoreServable:
    """A servable for one store, created from the store's row for each request by name. It keeps no resources open.

    ``embedding_model`` is the concrete name of the model of the store's vectors; it is empty if the store is searched
    by words alone. ``weight`` is the measured weight of the vectors, and ``links`` states whether passages are linked.
    ``has_review`` states whether searches must leave out files under review.
    ``fresh_row`` is the row, which saves the first search two queries.
    ``condition`` returns the filter that a file must meet for a caller to read the file. ``indexes`` is the daemon's
    `IndexManager`, and ``reranker`` serves searches that name none. ``before`` is awaited before each search, and can
    reject the search. ``tables`` reads the tables in the store's files, and ``themes`` computes its themes, if these
    are available.
    """

    def __init__(
        self,
        card: Card,
        store_id: str,
        embedding_model: str,
        *,
        weight: float | None = None,
        links: bool = False,
        has_review: bool = False,
        fresh_row: StoreRow | None = None,
        condition: Condition,
        indexes: IndexManager,
        database: Database,
        registry: Registry,
        reranker: DefaultReranker,
        before: Callable[[], Awaitable[None]] | None = None,
        tables: ReadsTables | None = None,
        themes: ReadsThemes | None = None,
    ) -> None:
        self._card = card
        self._tables = tables
        self._themes = themes
        self._before_search = before
        self._store_id = store_id
        self._fresh_row = fresh_row
        self._fresh_until = time.monotonic() + FRESH_S
        self._database = database
        self._condition = condition
        self._searcher = Searcher(
            store_id,
            card.name,
            embedding_model,
            weight=weight,
            links=links,
            hidden="new" if has_review else None,
            condition=condition,
            indexes=indexes,
            database=database,
            registry=registry,
            reranker=reranker,
        )

    @property
    def card(self) -> Card:
        return self._card

    async def call(
        self, request: Request, context: Context
    ) -> SearchResult | TableList | ComputedValue | StoreThemes | ChangedFiles:
        """Answer `Search`, and the requests about tables, themes and changed files.

        For errors see `Searcher.search` and `ReadsTables.compute`.
        Raise `InvalidRequest` for any other request.
        """
        if not isinstance(request, StoreRequest):
            raise InvalidRequest(
                f"'{self._card.name}' is a store: it answers only searches, not requests of the kind "
                f"'{type(request).__name__}'."
            )
        if self._before_search is not None:
            await self._before_search()
        if isinstance(request, Search):
            return await self._search(request, context)
        condition = self._condition(context.caller)
        if isinstance(request, FindThemes):
            if self._themes is None:
                return StoreThemes()
            return await self._themes.read(self._store_id, self._card.name, condition)
        if isinstance(request, FindChangedFiles):
            if self._themes is None:
                return ChangedFiles()
            return await self._themes.changed_files(self._store_id, self._card.name, condition, request)
        if self._tables is None:
            return TableList(()) if isinstance(request, FindTables) else ComputedValue(None)
        if isinstance(request, FindTables):
            return await self._tables.find(self._store_id, condition, request)
        return await self._tables.compute(self._store_id, self._card.name, condition, request)

    async def _search(self, request: Search, context: Context) -> SearchResult:
        fresh_row, self._fresh_row = self._fresh_row, None
        if time.monotonic() > self._fresh_until:  # the run waited before it began
            fresh_row = None
        search_result = await self._searcher.search(request, context, fresh_row)
        if search_result.passages and not (
            request.names and await rows.has_waiting(self._database, self._store_id)
        ):
            return search_result
        search_result = await self._with_file_counts(search_result, context)
        if search_result.waiting:
            total = (search_result.files or 0) + search_result.waiting
            await context.emit(Progressed("index", "", done=search_result.files, total=total, unit="files"))
        return search_result

    async def _with_file_counts(self, search_result: SearchResult, context: Context) -> SearchResult:
        """Return ``search_result`` with the number of searchable and of waiting files that the caller may read."""
        condition = self._condition(context.caller)
        if condition is None:
            counts = await self._database.read(rows.counts, [self._store_id])
            files, _bytes = counts.get(self._store_id, (rows.file_counts({}), 0))
            return replace(search_result, files=files.completed, waiting=files.in_progress)
        states = [
            row.status
            for row in await self._database.read(rows.states, self._store_id)
            if filters.permits(condition, row)
        ]
        return replace(search_result, files=states.count("completed"), waiting=states.count("in_progress"))


def scope_name(row: StoreRow) -> str:
    """Return the name of a store in scopes: the store's name if the store has claimed it, otherwise the id."""
    return row.id if row.claim is None else row.name


def store_scopes(row: StoreRow, action: str) -> tuple[str, str]:
    """Return the scopes of which a caller needs one for an action on a store: by name and by id."""
    return f"stores:{scope_name(row)}:{action}", f"stores:{row.id}:{action}"


def name_stores(store_rows: Sequence[StoreRow], owner: str) -> list[tuple[StoreRow, str]]:
    """Return stores with the names that a caller uses: names for the caller's own and for shared stores, ids for all
    others.
    """
    own_names = {row.name for row in store_rows if row.owner == owner and row.claim is not None}
    return [(row, name_for(row, owner, own_names)) for row in store_rows]


def name_for(row: StoreRow, owner: str, own_names: Collection[str]) -> str:
    """Return the name that a caller uses for a store; ``own_names`` are the names of the caller's own stores."""
    by_name = row.claim is not None and (
        row.owner == owner or (row.owner is None and row.name not in own_names)
    )
    return row.name if by_name else row.id


def store_card(row: StoreRow, name: str) -> Card:
    """Return the card of a store for the registry."""
    return Card(
        name=name,
        kind="store",
        title=row.name or row.id,
        description=row.description,
        capabilities=frozenset({"search", "tables"}),
        labels={
            "id": row.id,
            "app": row.app,
            "answers": row.answers,
            "embedding_model": row.embedding_model,
            "links": row.links,
            "search": row.search or {},
        },
        owner=row.owner,
        created=int(row.created_at),
        id=row.id,
    )


def scoped_card(row: StoreRow) -> Card:
    """Return the card of a store under the name that scopes and guards use."""
    return store_card(row, scope_name(row))


async def pass_content(registry: Registry, row: StoreRow, content: Content) -> Content:
    """Return content of a store as the guards of the store let it pass, see `Registry.pass_content`."""
    return await registry.pass_content(scoped_card(row), content)


def check_answers(answers: str, *, app: bool = True) -> None:
    """Raise `InvalidRequest` if the value of ``answers`` is invalid, or is set for a store without an app."""
    if answers not in ANSWERS:
        raise InvalidRequest(
            f"The store setting 'answers' is '{answers[:80]}', but must be one of {', '.join(ANSWERS)}."
            + nearest(answers, ANSWERS),
            param="answers",
        )
    if answers != "auto" and not app:
        raise InvalidRequest(
            "'answers' controls how a store's app answers, but this store has no app: set 'app': true, or "
            "omit 'answers'.",
            param="answers",
        )


def check_index(index: str) -> None:
    """Raise `InvalidRequest` unless ``index`` is where a store's vectors can be."""
    if index not in INDEXES:
        raise InvalidRequest(
            f"The store setting 'index' is '{index[:80]}', but must be one of {', '.join(INDEXES)}."
            + nearest(index, INDEXES),
            param="index",
        )


def check_search(given_value: Any, *, app: bool = True) -> dict[str, Any]:
    """Validate the setting that controls how a store's app searches: ``steps`` and their budget, see `Steps`, and
    ``reranker``: ``auto``, ``off`` or a model. Raises `InvalidRequest`.
    """
    if not isinstance(given_value, Mapping):
        raise InvalidRequest('\'search\' must be an object, such as {"steps": "auto"}.', param="search")
    for name in given_value:
        if name not in _SEARCH_FIELDS:
            raise InvalidRequest(
                f"'search' of a store has no field '{str(name)[:80]}'; valid fields are "
                f"{', '.join(_SEARCH_FIELDS)}." + nearest(str(name), _SEARCH_FIELDS),
                code="unknown_parameter",
                param=f"search.{str(name)[:80]}",
            )
    settings = dict(given_value)
    steps = settings.get("steps", "off")
    if steps not in ("off", "auto") and (type(steps) is not int or not 2 <= steps <= MAX_STEPS):
        raise InvalidRequest(
            f"'search.steps' is {str(steps)[:80]!r}, but must be off, auto or a number from 2 to {MAX_STEPS}.",
            param="search.steps",
        )
    reranker = settings.get("reranker", AUTO_RERANKER)
    if not isinstance(reranker, str) or not reranker:
        raise InvalidRequest(
            f"'search.reranker' is {str(reranker)[:80]!r}, but must be auto, off or the name of a model.",
            param="search.reranker",
        )
    budget = {name: value for name, value in settings.items() if name not in ("steps", "reranker")}
    for name, value in budget.items():
        fits = type(value) is int or (name == "max_seconds" and type(value) is float)
        if not fits:
            raise InvalidRequest(f"'search.{name}' must be a number.", param=f"search.{name}")
    try:
        check_steps(Steps(**budget))
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=f"search.{error.param}") from error
    if (steps != "off" or reranker != AUTO_RERANKER) and not app:
        raise InvalidRequest(
            "'search' controls how a store's app searches, but this store has no app: set 'app': true, or "
            "omit 'search'. A single search accepts 'steps' and 'reranker'.",
            param="search",
        )
    return settings


# A store as one caller may see it. `portico_server.api` and the apps access the contents of a store only
# through a view: `Stores.get` returns a `StoreView`, and all code that reads contents requires one. A filter
# bound to the caller's key is applied only here and in `portico_server.features.stores.search`, which gets the
# filter from `Stores.find`.


@dataclass(frozen=True, slots=True)
class StoreView(StoreRow):
    """A store, and the ``condition`` that files must meet for this caller to read them; ``None`` if the caller may
    read all files.
    """

    condition: Filter | None = None

    @property
    def whole(self) -> bool:
        """Return whether the caller may read every file."""
        return self.condition is None

    def permits(self, file: Labelled) -> bool:
        """Return whether the caller may read a file. Other files are treated as nonexistent."""
        return self.condition is None or filters.permits(self.condition, file)

    def require(self, attributes: Attributes, readers: Sequence[Sequence[str]] | None = None) -> None:
        """Raise `Forbidden` with the condition if the attributes would hide a file from the caller."""
        if self.condition is not None and not self.permits(FileLabels(attributes, readers)):
            raise Forbidden(
                f"This key can only store files in '{self.name or self.id}' whose attributes meet its "
                f"filter: {filters.in_words(self.condition)}. Set 'attributes' accordingly.",
                code="attributes_not_permitted",
                param="attributes",
            )

    def require_whole(self) -> None:
        """Raise `Forbidden` if the caller cannot read all files of the store. For operations that concern all files."""
        if not self.whole:
            raise Forbidden(
                f"This key can see only a part of the store '{self.name or self.id}', but the request "
                "concerns the whole store. Ask the operator, or use a key without a filter on this store.",
                code="store_is_filtered",
            )


_COLUMNS = [field.name for field in fields(StoreRow)]


def view(row: StoreRow, caller: Principal) -> StoreView:
    """Return the store as ``caller`` may see it."""
    values = {name: getattr(row, name) for name in _COLUMNS}
    return StoreView(**values, condition=row.condition_for(caller))
