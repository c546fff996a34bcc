"""Response types used by several endpoints: lists, timestamps, and the conversion of rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, cast

import orjson
from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, TypeAdapter
from starlette.responses import Response

from portico_server.core.binding import HasId
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.db.rows import RowPage

T = TypeVar("T")
Row = TypeVar("Row", bound=HasId)
Shape = TypeVar("Shape")
NamedRow = TypeVar("NamedRow", bound="HasName")

Moment: TypeAlias = Annotated[int, BeforeValidator(int)]
"""Whole seconds since 1970, converted from a row with fractional seconds."""


class HasName(HasId, Protocol):
    """An object with an id and a name."""

    @property
    def name(self) -> str: ...


def shaped(shape: type[Shape], row: Any, **given_fields: Any) -> Shape:
    """Return ``row`` as a ``shape``, a data class or a model.

    A field that is not in ``given_fields`` gets the row's attribute of the same name, or its default.
    """
    fields = shape.model_fields if issubclass(shape, BaseModel) else shape.__dataclass_fields__  # type: ignore[attr-defined]
    attributes = {
        name: getattr(row, name) for name in fields if name not in given_fields and hasattr(row, name)
    }
    shape_document: Shape = _adapter(cast("Hashable", shape)).validate_python(
        attributes | given_fields, from_attributes=True
    )
    return shape_document


@cache
def _adapter(shape: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("type[Any]", shape))


class Listed(BaseModel, Generic[T]):
    """A list in the format of the native API."""

    data: list[T]


class ListedPart(Listed[T], Generic[T]):
    """The beginning of a list. ``has_more`` is true if more items exist, because the list was cut at ``limit`` or at
    its maximum total length.
    """

    has_more: bool


class OpenAIList(Listed[T], Generic[T]):
    """A list in OpenAI's format."""

    object: Literal["list"] = "list"


class ListedPage(ListedPart[T], Generic[T]):
    """A page of a list. To get the next page, pass ``last_id`` as ``after``. Without a limit, the whole list."""

    last_id: str | None = None

    @classmethod
    def of(cls, data: Sequence[Any], has_more: bool) -> Self:
        """Return a page of ``data`` with its last id."""
        return cls(data=list(data), has_more=has_more, last_id=data[-1].id if data else None)


@dataclass(frozen=True, slots=True)
class Paging:
    """What a caller asks of a list: at most ``limit`` objects, those after the one with ``after_id``, and those whose
    names contain ``query``.
    """

    limit: int | None = None
    after_id: str | None = None
    query: str = ""


async def _paging(
    limit: Annotated[int | None, Query(ge=1, le=1_000)] = None,
    after_id: Annotated[str | None, Query(alias="after", max_length=200)] = None,
    query: Annotated[str, Query(max_length=200)] = "",
) -> Paging:
    return Paging(limit, after_id, query)


ThePaging: TypeAlias = Annotated[Paging, Depends(_paging)]
"""The query parameters ``limit``, ``after`` and ``query`` of a list."""


class PartialList(OpenAIList[T], Generic[T]):
    """A part of a list."""

    has_more: bool


class Page(PartialList[T], Generic[T]):
    """A page of objects with ids. To get the next page, pass ``last_id`` as ``after``."""

    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, data: Sequence[Any], has_more: bool) -> Self:
        """Return a page of ``data`` with its first and last id."""
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=list(data), has_more=has_more, first_id=ends[0], last_id=ends[1])


def page_of(rows: Sequence[Row], after: str | None, limit: int, noun: str) -> RowPage[Row]:
    """Return at most ``limit`` rows that follow the row with the id ``after``. Raise `NotFound` if no row has this
    id.
    """
    start = 0
    if after is not None:
        start = next((number for number, row in enumerate(rows, 1) if row.id == after), -1)
        if start < 0:
            raise NotFound(f"The {noun} '{after[:80]}' in 'after' does not exist.", param="after")
    return RowPage(tuple(rows[start : start + limit]), start + limit < len(rows))


def cut_page(rows: Sequence[NamedRow], paging: Paging, noun: str) -> RowPage[NamedRow]:
    """Return the page that a caller asked for, see `page_of`; without a limit all that follow."""
    folded_query = paging.query.casefold()
    named_rows = [row for row in rows if folded_query in row.name.casefold()]
    return page_of(named_rows, paging.after_id, paging.limit or len(named_rows), noun)


class RemovedName(BaseModel):
    """The name of a removed object."""

    name: str
    deleted: bool = True


class RemovedId(BaseModel):
    """The id of a removed object."""

    id: str
    deleted: bool = True


class RemovedObject(BaseModel):
    """Confirmation in OpenAI's format that an object was removed."""

    id: str
    object: str
    deleted: bool = True


class StartedRun(BaseModel):
    """The id of the run that does the requested work; its events are at ``/api/runs/{id}/events``."""

    run: str


def answer(document: Mapping[str, Any]) -> Response:
    """Return a document as a FastAPI response without using FastAPI's encoder."""
    return Response(orjson.dumps(document), media_type="application/json")
