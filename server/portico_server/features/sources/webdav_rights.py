"""Who may read a file of a WebDAV folder, by its access control list. RFC 3744, section 5.5.

A server checks the entries in order: a right that an entry has granted stays, and an entry that denies ends the list
for the callers whom it names (section 6). Sets of groups cannot exclude somebody, so such an entry ends the list for
everybody: fewer callers may then read the file, never more. The list of a file alone decides; it contains the inherited
entries.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from lxml import etree

from portico_server.core.names import is_plain
from portico_server.features.sources.rights import EVERYBODY, MAX_CHARS, Readers, readers

MAX_ACES: Final = 1_000
"""Maximum number of entries in the list of a file. A longer list counts as unknown."""

_GRANTING: Final = frozenset({"read", "all"})
"""Privileges that let a caller read a file."""

_OTHER: Final = frozenset(
    {
        "write",
        "write-properties",
        "write-content",
        "unlock",
        "read-acl",
        "read-current-user-privilege-set",
        "write-acl",
        "bind",
        "unbind",
    }
)
"""Privileges without the right to read. An unknown privilege could contain this right, so its denial counts."""

_DAV: Final = "{DAV:}"
_OWNER_OF_SABREDAV: Final = "/{DAV:}owner/"
"""The address by which SabreDAV (4.7.1) names the owner of a file, instead of ``DAV:property``."""


def readers_of(properties: etree._Element, host: str) -> Readers | None:
    """Return the readers of a file with these properties (``DAV:prop``) on ``host``, or ``None`` if they contain no
    list.
    """
    acl = properties.find(f"{_DAV}acl")
    if acl is None or len(acl) > MAX_ACES:
        return None
    names: list[str] = []
    for ace in acl.iterchildren(f"{_DAV}ace"):
        if ace.find(f"{_DAV}deny") is not None:
            denied = _privileges(ace, "deny")
            if not denied or denied - _OTHER:
                break
        elif _privileges(ace, "grant") & _GRANTING:
            names += _names(ace, properties, host)
    return readers([names])


def _privileges(ace: etree._Element, action: str) -> set[str]:
    """Return the privileges that an entry grants or denies. Those of other namespaces are in the form
    ``{NAMESPACE}NAME``.
    """
    return {
        str(privilege.tag).removeprefix(_DAV)
        for privilege in ace.iterfind(f"{_DAV}{action}/{_DAV}privilege/*")
    }


def _names(ace: etree._Element, properties: etree._Element, host: str) -> list[str]:
    """Return the users and groups to whom an entry grants its privileges. An entry for everybody except somebody
    (``DAV:invert``) has none.
    """
    principals = ace.findall(f"{_DAV}principal/*")
    if len(principals) != 1 or ace.find(f"{_DAV}invert") is not None:
        return []
    kind = str(principals[0].tag).removeprefix(_DAV)
    if kind in ("all", "authenticated"):
        return [EVERYBODY]
    if kind == "href" and (principals[0].text or "").strip().endswith(_OWNER_OF_SABREDAV):
        return [
            name for href in properties.iterfind(f"{_DAV}owner/{_DAV}href") for name in _name(href.text, host)
        ]
    if kind == "href":
        return _name(principals[0].text, host)
    if kind == "property" and (
        principals[0].find(f"{_DAV}owner") is not None or principals[0].find(f"{_DAV}group") is not None
    ):
        tag = str(principals[0][0].tag)
        return [name for href in properties.iterfind(f"{tag}/{_DAV}href") for name in _name(href.text, host)]
    return []


def _name(href: str | None, host: str) -> list[str]:
    """Return the name of the group ``…/groups/NAME``, or of the user ``…/users/NAME`` or ``…/principals/NAME``. Other
    principals have no name.
    """
    try:
        parts = urlsplit((href or "").strip())
    except ValueError:
        return []
    if parts.netloc not in ("", host):
        return []
    *_, collection, name = ["", "", *map(unquote, parts.path.rstrip("/").split("/"))]
    if not name or len(name) > MAX_CHARS or not is_plain(name):
        return []
    if collection in ("users", "principals"):
        return [f"user:{name}"] if name not in ("users", "groups") else []
    return [name] if collection == "groups" and name != EVERYBODY and not name.startswith("user:") else []
