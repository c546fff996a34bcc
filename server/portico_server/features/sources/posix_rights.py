"""Who may read a file of a folder, by owners, groups, modes and access control lists (POSIX 1003.1e, draft 17).

A group of users is named as in the system, a user ``user:NAME``. POSIX can exclude somebody whom a later entry permits.
Sets of groups cannot, so an entry that excludes also ends the list: fewer callers may then read the file, never more.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from portico_server.features.sources.rights import EVERYBODY, Readers, readers

_ACL: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_USER, _GROUP_OF_FILE, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10
"""Tags of the entries of a list that its mode does not repeat."""

_READ, _SEARCH = 4, 1
"""Permissions that a file and its folders need."""


class PosixRights:
    """Reads the readers of the files below ``root`` during one scan. The rights above ``root`` do not count."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._of_folder = cache(lambda folder: _permitted(folder, _SEARCH))

    def readers(self, path: Path) -> Readers | None:
        """Return the readers of a file, or ``None`` if its rights cannot be read."""
        rules = self.rules(path)
        return readers([groups for _, groups in rules]) if rules else None

    def rules(self, path: Path) -> Sequence[tuple[str, Sequence[str]]]:
        """Return who may read a file and search each of its folders, as (path below the root, users and groups), or
        nothing if the rights cannot be read.
        """
        try:
            place = path.resolve(strict=True)
            folders = [folder for folder in place.parents if folder.is_relative_to(self._root)]
            rules = [
                (place, _permitted(place, _READ)),
                *((folder, self._of_folder(folder)) for folder in folders),
            ]
            return [(str(part.relative_to(self._root)), names) for part, names in rules]
        except (OSError, RuntimeError):
            return ()


def _permitted(path: Path, permission: int) -> Sequence[str]:
    """Return the users and groups who have a permission for a file or folder."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not mode >> 6 & permission:
        return ()
    users: dict[int, int] = {}
    groups: dict[int, int] = {}
    mask = 7
    for tag, permissions, identity in _entries(path) or [(_GROUP_OF_FILE, mode >> 3, 0)]:
        if tag == _USER and identity != status.st_uid:
            users[identity] = permissions
        elif tag in (_GROUP_OF_FILE, _GROUP):
            group = identity if tag == _GROUP else status.st_gid
            groups[group] = groups.get(group, 0) | permissions
        elif tag == _MASK:
            mask = permissions
    permitted_users = [user for user, permissions in users.items() if permissions & mask & permission]
    names = [_user_name(status.st_uid), *map(_user_name, permitted_users)]
    if len(permitted_users) < len(users):
        return names
    permitted_groups = [group for group, permissions in groups.items() if permissions & mask & permission]
    names += map(_group_name, permitted_groups)
    if len(permitted_groups) < len(groups) or not mode & permission:
        return names
    return (EVERYBODY,)


def _entries(path: Path) -> Sequence[tuple[int, int, int]]:
    """Return the entries of an access control list, as (tag, permissions, id of the user or group). A file without a
    list has none.
    """
    try:
        data = os.getxattr(path, _ACL)
    except (OSError, AttributeError):  # no list, or a system without them
        return ()
    if len(data) < _HEADER.size or _HEADER.unpack_from(data) != (_ACL_VERSION,):
        raise OSError(f"The access control list of {path} has an unknown format.")
    return list(_ENTRY.iter_unpack(data[_HEADER.size :]))


@cache
def _user_name(user: int) -> str:
    import pwd  # absent on Windows, where files have no such owners

    try:
        return f"user:{pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user:{user}"


@cache
def _group_name(group: int) -> str:
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
