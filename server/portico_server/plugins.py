"""Plugins: engines, chunkers, tools and providers that installed distributions add through entry points.

Metadata is read once, when a name is not built in or when plugins are listed. A plugin is imported when it is needed
or listed. If a plugin cannot be loaded, it is reported, and everything else keeps working. This module imports only
the core, so that each table of the daemon can be a `PluginTable`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import cache
from importlib import import_module
from itertools import chain
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError

if TYPE_CHECKING:
    from portico.schemas.daemon import Plugin

logger = logging.getLogger(__name__)

PLUGIN_API_VERSION: Final = 1
"""Version of the classes and functions in docs/plugins.md. It increases when a change would break an existing
plugin.
"""

VERSION_NAME: Final = "PORTICO_PLUGIN_API"
"""Variable in a plugin's module with the version for which it was written."""

MAX_IMPORT_S: Final = 30.0
"""Maximum time that the import of a plugin takes, in seconds."""

PluginKind: TypeAlias = Literal["engine", "chunker", "tool", "provider"]

GROUPS: Final[Mapping[str, PluginKind]] = {
    "portico.engines": "engine",
    "portico.chunkers": "chunker",
    "portico.tools": "tool",
    "portico.providers": "provider",
}
"""Entry point groups, and the kind of plugin that each adds."""

_PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _PluginEntry:
    """The contents of an entry point: the name of a module, and of an object in that module."""

    kind: PluginKind
    name: str
    target: str
    distribution: str
    version: str


class PluginError(InvalidRequest):
    """A request names a plugin that cannot be loaded."""

    code = "plugin_failed"

    def __init__(self, info: Plugin) -> None:
        super().__init__(f"{info} cannot be loaded: {info.reason}", param=info.kind)


@cache
def _entry_points() -> Sequence[_PluginEntry]:
    """Return the entry points of our groups, by distribution and name. Reads the metadata on the module path;
    blocks.
    """
    from importlib import metadata  # imported here, because a start without plugins does not need it

    plugin_entries: dict[str, list[_PluginEntry]] = {}
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if "portico." not in text:
            continue
        try:
            name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
            entries = [
                _PluginEntry(GROUPS[point.group], point.name, point.value, name, distribution.version)
                for point in distribution.entry_points
                if point.group in GROUPS
            ]
        except Exception:
            logger.exception("the entry points of a distribution cannot be read:\n%s", text)
            continue
        # If a distribution is installed several times, the first wins, because Python imports the first match
        # on the path.
        plugin_entries.setdefault(name, sorted(entries, key=lambda entry: (entry.kind, entry.name)))
    return tuple(chain.from_iterable(plugin_entries[name] for name in sorted(plugin_entries)))


def has_plugin(kind: PluginKind, name: str) -> bool:
    """Return whether a plugin of this kind has the name, even if the plugin cannot be loaded."""
    return any(entry.kind == kind and entry.name == name for entry in _entry_points())


class PluginTable(Mapping[str, T], Generic[T]):
    """All entries of one kind by name: built-in entries, then those of plugins.

    ``accept`` turns a plugin's object into the table's entry, or raises an exception that says what is wrong with the
    object. ``reserved_names`` are further names that plugins must not use. Iteration yields names and imports nothing.
    A lookup raises `PluginError` for a plugin that cannot be loaded.
    """

    def __init__(
        self,
        kind: PluginKind,
        built_in: Mapping[str, T],
        accept: Callable[[Any], T],
        reserved_names: Collection[str] = (),
    ) -> None:
        self._kind = kind
        self.built_in = built_in
        self._accept = accept
        self._reserved = reserved_names
        self._plugins: dict[str, T] = {}
        self._failures: dict[_PluginEntry, str] = {}

    def __getitem__(self, name: str) -> T:
        if name in self.built_in:
            return self.built_in[name]
        if name not in self._plugins:
            entry = self._entries[name]
            if entry not in self._failures:
                self._load(entry)
            if entry in self._failures:
                raise PluginError(self._info(entry))
        return self._plugins[name]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._entries

    def __iter__(self) -> Iterator[str]:
        return chain(self.built_in, self._entries)

    def __len__(self) -> int:
        return len(self.built_in) + len(self._entries)

    def usable(self) -> Iterator[T]:
        """Yield the built-in entries and the plugins that can be loaded. Imports all plugins."""
        for name in self:
            try:
                yield self[name]
            except PluginError:
                continue

    def plugins(self) -> list[Plugin]:
        """Return every plugin of this kind, with its error if it has one. Imports all plugins."""
        for name, entry in self._entries.items():
            if name not in self._plugins and entry not in self._failures:
                self._load(entry)
        return [self._info(entry) for entry in _entry_points() if entry.kind == self._kind]

    @property
    def _entries(self) -> Mapping[str, _PluginEntry]:
        """Return the plugin of each name. If several plugins have a name, the first keeps it; the others count as
        failed.
        """
        plugin_entries: dict[str, _PluginEntry] = {}
        for entry in _entry_points():
            if entry.kind != self._kind:
                continue
            reason = self._refusal(entry, plugin_entries)
            if reason:
                self._fail(entry, reason)
            else:
                plugin_entries[entry.name] = entry
        return plugin_entries

    def _refusal(self, entry: _PluginEntry, plugin_entries: Mapping[str, _PluginEntry]) -> str:
        """Return the reason why a plugin cannot have its name, or an empty string if it can."""
        if not _PLUGIN_NAME.fullmatch(entry.name):
            return (
                "its name must be a lower-case letter and up to 63 lower-case letters, digits, '-' and '_'."
            )
        if entry.name in self.built_in or entry.name in self._reserved:
            return f"the name '{entry.name}' is built in. Choose another name."
        if entry.name in plugin_entries:
            return f"the name '{entry.name}' belongs to the {self._kind} of {plugin_entries[entry.name].distribution}."
        return ""

    def _load(self, entry: _PluginEntry) -> None:
        """Import a plugin in a thread of its own, because an import can hang. Blocks, at most `MAX_IMPORT_S`."""
        loading: Future[T] = Future()

        def load() -> None:
            try:
                loading.set_result(self._import(entry))
            except BaseException as error:  # noqa: BLE001  # foreign code raises anything
                loading.set_exception(error)

        Thread(target=load, name=f"plugin {entry.name}", daemon=True).start()
        wait([loading], MAX_IMPORT_S)
        if not loading.done():
            self._fail(entry, f"its import took longer than {MAX_IMPORT_S:g} s.")
        elif error := loading.exception():
            self._fail(entry, error.message if isinstance(error, PorticoError) else _describe(error))
        else:
            self._plugins[entry.name] = loading.result()

    def _import(self, entry: _PluginEntry) -> T:
        module_name, _, attribute = entry.target.partition(":")
        module = import_module(module_name.strip())
        version = getattr(module, VERSION_NAME, None)
        if version != PLUGIN_API_VERSION:
            raise InvalidRequest(
                f"its module sets {VERSION_NAME} to {version!r}; this daemon supports plugins of version "
                f"{PLUGIN_API_VERSION}."
            )
        plugin = self._accept(getattr(module, attribute.strip()))
        name = getattr(plugin, "name", entry.name)
        if name != entry.name:
            raise InvalidRequest(f"its own name is {name!r}, but its entry point is '{entry.name}'.")
        return plugin

    def _fail(self, entry: _PluginEntry, reason: str) -> None:
        if entry not in self._failures:
            self._failures[entry] = reason
            logger.error("%s cannot be loaded: %s", self._info(entry), reason)

    def _info(self, entry: _PluginEntry) -> Plugin:
        # A process that reads documents does not need this module.
        from portico.schemas.daemon import Plugin

        reason = self._failures.get(entry, "")
        return Plugin(
            entry.kind,
            entry.name,
            entry.distribution,
            entry.version,
            "failed" if reason else "ready",
            reason,
        )


def _describe(error: BaseException) -> str:
    """Return the type and the text of an error. The error's own code can fail to return a text."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001
        return type(error).__name__


class InstalledPlugins:
    """All plugins of a daemon. ``tables`` returns the plugin tables, whose modules the first listing imports."""

    def __init__(self, tables: Callable[[], Sequence[PluginTable[Any]]]) -> None:
        self._tables = tables

    async def list(self) -> Sequence[Plugin]:
        """Import all plugins, and return them sorted by kind, distribution and name."""
        # With asyncio, which a process that reads documents does not need.
        from portico_server.core import pools

        return await pools.LOADING.run(self._list)

    # In annotations below the method `list`, its name hides the built-in `list`.
    def _list(self) -> Sequence[Plugin]:
        return [info for table in self._tables() for info in table.plugins()] if _entry_points() else ()
