"""A store as one caller may see it: the one way from `portico_server.api` and the apps to the content of a store.

`Stores.get` hands out a `StoreView`, and whatever reads content takes one. A filter that is bound to the caller's key
is applied here and in `portico_server.knowledge.search`, which has it from `Stores.find`; nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from portico_server.core.errors import Forbidden
from portico_server.core.principal import Principal
from portico_server.core.request import Attributes, Filter
from portico_server.db.file_batches import BatchRow as BatchRow
from portico_server.db.stores import FileCounts as FileCounts
from portico_server.db.stores import FileStatus as FileStatus
from portico_server.db.stores import StoreFileRow as StoreFileRow
from portico_server.db.stores import StoreRow as StoreRow
from portico_server.knowledge import filter as filters


@dataclass(frozen=True, slots=True)
class StoreView(StoreRow):
    """A store and the ``condition`` that a file of it must meet for this caller; ``None``: it may read all of them."""

    condition: Filter | None = None

    @property
    def whole(self) -> bool:
        """Whether the caller may read every file."""
        return self.condition is None

    def permits(self, attributes: Attributes) -> bool:
        """Whether the caller may read a file with these attributes. One that it may not read does not exist for it."""
        return self.condition is None or filters.permits(self.condition, attributes)

    def require(self, attributes: Attributes) -> None:
        """Raise `Forbidden`, which names the condition, for attributes under which the caller would not see a file."""
        if self.condition is not None and not self.permits(attributes):
            raise Forbidden(
                f"This key may only keep files in the store '{self.name or self.id}' whose attributes meet its filter: "
                f"{filters.in_words(self.condition)}. Set 'attributes' so that they do.",
                code="attributes_not_permitted",
                param="attributes",
            )

    def require_whole(self) -> None:
        """Raise `Forbidden` if there are files that the caller may not read: for what concerns all of them at once."""
        if not self.whole:
            raise Forbidden(
                f"This key sees only a part of the store '{self.name or self.id}', and what was asked for concerns all "
                "of it. Ask the operator, or use a key without a filter on this store.",
                code="store_is_filtered",
            )


_COLUMNS = [field.name for field in fields(StoreRow)]


def view(row: StoreRow, caller: Principal) -> StoreView:
    """The store as ``caller`` may see it."""
    values = {name: getattr(row, name) for name in _COLUMNS}
    return StoreView(**values, condition=caller.condition(row.id, row.name, row.owner))
