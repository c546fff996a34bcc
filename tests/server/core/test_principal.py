"""Scopes by name, by wildcard and by a stronger right; owners."""

import pytest

from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.principal import LOCAL, Principal, parse_scope


@pytest.mark.parametrize(
    ("held", "wanted", "allowed"),
    [
        ("admin", "stores:handbook:manage", True),
        ("chat", "chat", True),
        ("chat", "models:read", False),
        ("stores:handbook:read", "stores:handbook:read", True),
        ("stores:handbook:read", "stores:other:read", False),
        ("stores:*:read", "stores:other:read", True),
        ("stores:*:read", "stores:other:write", False),
        ("stores:handbook:write", "stores:handbook:read", True),
        ("stores:handbook:manage", "stores:handbook:write", True),
        ("stores:*:manage", "stores:handbook:read", True),
        ("apps:story:deploy", "apps:story:call", True),
        ("apps:story:call", "apps:story:deploy", False),
        ("tools:*:call", "tools:search:call", True),
    ],
)
def test_a_scope_allows_itself_and_what_is_weaker(held: str, wanted: str, allowed: bool) -> None:
    assert Principal("key_1", frozenset({held})).allows(wanted) is allowed


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(Forbidden, match="stores:handbook:write"):
        Principal("key_1", frozenset({"chat"})).require("stores:handbook:write")


def test_a_key_sees_its_own_and_shared_objects_only() -> None:
    key = Principal("key_1", frozenset({"chat"}))
    assert key.sees("key_1")
    assert key.sees(None)
    assert not key.sees("key_2")
    assert LOCAL.sees("key_2")


@pytest.mark.parametrize(
    "text", ["", "root", "stores:a", "stores:a:delete", "stores::read", "chat:*", "stores:a b:read"]
)
def test_an_unknown_scope_is_refused_with_the_list(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Scopes are"):
        parse_scope(text)


def test_a_scope_may_name_things_in_chinese() -> None:
    assert parse_scope("stores:手册:read") == "stores:手册:read"


def test_a_scope_for_any_name_suffices_while_the_name_is_unknown() -> None:
    for scope in ("stores:docs:write", "stores:*:manage", "admin"):
        assert Principal("k", frozenset({scope})).allows_some("stores", "write")
    for scope in ("stores:docs:read", "apps:docs:call", "tools:write:call", "chat"):
        assert not Principal("k", frozenset({scope})).allows_some("stores", "write")
