"""Which rule decides whether a caller may read a file of a store."""

from __future__ import annotations

from pathlib import Path

from portico.schemas.stores import FileAccess, SourceRule
from portico_server.core import filter as filters
from portico_server.core import pools
from portico_server.core.facts import FACT, OWNER
from portico_server.core.principal import Principal
from portico_server.db.stores import StoreFileRow, StoreRow
from portico_server.features.sources.posix_rights import PosixRights
from portico_server.features.sources.rights import (
    UNKNOWN_RIGHTS,
    adopts_source,
    deciding_prefix,
    prefixes,
    source_names,
    to_groups,
)
from portico_server.features.stores.store import store_scopes


async def explain(row: StoreRow, file: StoreFileRow, caller: Principal) -> FileAccess:
    """Return the rule of this daemon that decides, with what the last sync read and what the source states now."""
    permitted, rule, reason = _decide(row, file, caller)
    readers = None if file.readers is None else tuple(map(tuple, file.readers))
    return FileAccess(
        filename=file.filename,
        caller=caller.id,
        permitted=permitted,
        rule=rule,
        reason=reason,
        groups=tuple(sorted(caller.groups)),
        readers=readers,
        source=await _source_rules(row, file),
    )


def _decide(row: StoreRow, file: StoreFileRow, caller: Principal) -> tuple[bool, str, str]:
    if caller.admin:
        return True, "admin", "An admin reads every file."
    scopes = store_scopes(row, "read")
    if not caller.sees(row.owner) or not caller.allows_any(scopes):
        return (
            False,
            "scope",
            f"The key cannot read the store: it lacks the scope '{scopes[0]}', or does not see it.",
        )
    if file.attributes.get(FACT) is True and file.attributes.get(OWNER) != caller.id:
        return False, "owner", "The file is a fact that an agent remembers for another key."
    if row.owner == caller.id:
        return True, "owner", "The store belongs to the key."
    condition = caller.condition(row.id, row.name, row.owner)
    if condition is not None and not filters.permits(condition, file):
        return (
            False,
            "filter",
            f"The file does not meet the filter of the key: {filters.in_words(condition)}.",
        )
    if row.rights is None:
        return True, "scope", "The store has no rights from its source, so its readers read every file."
    if file.readers is None:
        return (
            False,
            "source",
            f"The last sync did not learn who may read the file at the source. {UNKNOWN_RIGHTS} Then sync the store.",
        )
    for groups in file.readers:
        if caller.groups.isdisjoint(groups):
            return (
                False,
                "source",
                f"The key needs one of these groups: {', '.join(groups) or 'none suffices'}.",
            )
    return True, "source", "The source lets the groups of the key read the file."


async def _source_rules(row: StoreRow, file: StoreFileRow) -> tuple[SourceRule, ...]:
    if adopts_source(row.rights) and row.folder is not None:
        folder = Path(row.folder)
        rules = await pools.FILES.run(lambda: PosixRights(folder).rules(folder / file.filename))
        groups_by_name = source_names(row.rights)
        return tuple(
            SourceRule(
                place,
                tuple(dict.fromkeys(to_groups(names, groups_by_name))),
                () if groups_by_name is None else tuple(names),
            )
            for place, names in rules
        )
    groups_by_prefix = prefixes(row.rights)
    if groups_by_prefix is None:
        return ()
    prefix = deciding_prefix(file.filename, groups_by_prefix)
    return () if prefix is None else (SourceRule(prefix, tuple(groups_by_prefix[prefix])),)
