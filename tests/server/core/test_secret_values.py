"""Which values of an operator count as secrets, and how they are removed from texts."""

from __future__ import annotations

import json

import pytest

from portico_server.core.secret_values import MASK, SecretValues, in_address, in_headers, in_variables


@pytest.mark.parametrize(
    ("found", "secrets"),
    [
        (in_variables({"SHOP_TOKEN": "opensesame", "API_KEY": "a1b2c3"}), ["opensesame", "a1b2c3"]),
        (in_variables({"SORT_KEY": "created_at", "FOLDER": "/srv/data", "TOKENS": "many"}), []),
        (in_variables({"DATABASE": "postgresql://ada:hunter22@db/shop"}), ["hunter22"]),
        (in_headers({"Authorization": "Bearer abcdef", "Accept": "text/plain"}), ["Bearer abcdef", "abcdef"]),
        (in_address("https://shop.example/?sort_key=name&api_key=k1&page=2"), ["", "k1"]),
        (in_address("shop.db"), []),
        (in_address("http://[broken"), []),
    ],
)
def test_names_say_which_values_are_secrets(found: list[str], secrets: list[str]) -> None:
    assert list(found) == secrets


@pytest.mark.parametrize("value", [{"a": ['x se"cret y']}, ('se"cret',), 'se"cret', json.dumps('se"cret')])
def test_secrets_are_removed_at_any_depth(value: object) -> None:
    secrets = SecretValues(['se"cret', "short"])
    assert secrets
    assert MASK in str(secrets.remove(value)) and "cret" not in str(secrets.remove(value))
    assert secrets.remove("short") == "short"
    assert secrets.remove_bytes(b'{"a": "se\\"cret"}') == b'{"a": "***"}'
    assert not SecretValues(["short"])
