"""Names of stores, and functions that validate them."""

from __future__ import annotations

from portico_server.core.errors import InvalidRequest
from portico_server.core.names import excerpt, is_name, is_plain


def is_store_name(name: str) -> bool:
    """Return whether a store name is valid in scopes, URLs and model lists, and cannot be mistaken for an id."""
    return is_name(name) and not name.startswith("vs_")


def check_store_name(name: str) -> str:
    """Return the name if `is_store_name` accepts it; otherwise raise `InvalidRequest`."""
    if not is_store_name(name):
        raise InvalidRequest(
            f"'{excerpt(name)}' is not a valid name for a store: use 1 to 128 characters, without control "
            "characters or any of : / \\ [ ] < > `, not beginning with 'vs_'.",
            code="invalid_name",
            param="name",
        )
    return name


def store_name(folder: str) -> str:
    """Return the name for a store that mirrors a folder with this name. The folder's name is changed only as far as
    necessary.
    """
    name = "".join(
        character if character not in ":/\\" and is_plain(character) else "-" for character in folder
    )
    name = name.strip()[:128].strip()
    return name if is_store_name(name) else f"docs-{name}".rstrip("-")[:128]
