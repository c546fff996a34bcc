"""Which addresses a model had to invent: those which stand neither in the user's words nor in what was read."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.core.addresses import (
    MAX_ADDRESSES,
    SeenAddresses,
    SeenTexts,
    plain_address,
    requested_addresses,
)

READ = [
    ("See https://a.example/page.", "https://a.example/page"),
    ("See https://a.example/page.", "http://a.example/page/"),
    ("See https://a.example/page.", "https://a.example/page#part"),
    ("[a](https://a.example/b_(c))", "https://a.example/b_(c)"),
    ("(https://a.example/b)", "https://a.example/b"),
    ('<a href="https://a.example/?q=1&amp;r=2">', "https://a.example/?q=1&amp;r=2"),
    ("https://a.example/x#top and more", "https://a.example/x"),
    ('{"url": "https://a.example/x"}', "https://a.example/x"),
    ("Read a.example and tell me.", "https://a.example/"),
    ("Read a.example/docs, please.", "https://a.example/docs"),
    ("见https://a.example/文档。", "https://a.example/文档。"),
    ("见https://a.example/b。", "https://a.example/b"),
    ("**https://a.example/b**", "https://a.example/b"),
    ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
]

INVENTED = [
    ("See https://a.example/page.", "https://a.example/pag"),
    ("See https://a.example/page.", "https://a.example/page/secret"),
    ("See https://a.example/page.", "https://a.example/page?secret"),
    ("See https://a.example/page?q=1", "https://a.example/page"),
    ("See https://a.example/page.", "https://secret.a.example/page"),
    ("See https://a.example/page.", "https://a.example.evil.example/page"),
    ("See https://a.example/page.", "https://secret@a.example/page"),
    ("See https://a.example/page.", "https://a.example:8443/page"),
    ("See https://a.example/page.", "https://A.example/page"),
    ("Write to ann@a.example.", "https://a.example"),
    ("report.final.pdf-old", "https://final.pdf"),
    ("The secret is 1234.", "https://a.example/1234"),
    ("", ""),
]


@pytest.mark.parametrize(
    ("text", "address", "is_read"),
    [*((*case, True) for case in READ), *((*case, False) for case in INVENTED)],
)
def test_an_address_is_read_only_if_it_stands_whole_in_a_text(text: str, address: str, is_read: bool) -> None:
    addresses = SeenAddresses()
    addresses.read(text)
    assert (plain_address(address) in addresses, plain_address(address) in SeenTexts([(text, True)])) == (
        is_read,
        is_read,
    )


ADDRESS = "a.example/secret"
LINK = f"https://{ADDRESS}"


@pytest.mark.parametrize(
    ("texts", "is_read"),
    [
        ([(LINK, True)], True),
        ([(LINK, False)], False),
        ([(LINK, True), (LINK, False)], True),
        ([(LINK, False), (LINK, True)], False),
        ([("a.example", True), (LINK, False), (f"You wrote {LINK}", True)], False),
    ],
)
def test_a_tool_that_repeats_an_address_of_the_model_proves_nothing(
    texts: list[tuple[str, bool]], is_read: bool
) -> None:
    addresses = SeenAddresses()
    for text, model_did_not_write in texts:
        (addresses.read if model_did_not_write else addresses.wrote)(text)
    assert (ADDRESS in addresses, ADDRESS in SeenTexts(texts)) == (is_read, is_read)
    assert (ADDRESS in SeenAddresses(addresses), ADDRESS in SeenTexts([], addresses)) == (is_read, is_read)


def test_addresses_beyond_the_limit_count_as_new() -> None:
    addresses = SeenAddresses()
    for number in range(MAX_ADDRESSES):
        addresses.wrote(f"https://a.example/{number}")
    addresses.read(LINK)
    assert ADDRESS not in addresses


@pytest.mark.parametrize(
    ("arguments", "addresses"),
    [
        ({}, []),
        ({"query": "weather in Rome"}, []),
        ({"query": "a.example"}, []),
        ({"url": "a.example/x"}, ["a.example/x"]),
        ({"url": " HTTPS://a.example/x "}, ["a.example/x"]),
        ({"target": LINK}, [ADDRESS]),
        ({"pages": [LINK, {"page": f"{LINK}/2"}]}, [f"{ADDRESS}/2", ADDRESS]),
        ({"request": {"base_url": "a.example", "path": "/x"}}, ["a.example"]),
        ({"text": f"see {LINK} and {LINK}2"}, [ADDRESS, f"{ADDRESS}2"]),
        ({"uri": "file:///etc/passwd"}, ["file:///etc/passwd"]),
        ({"count": 3, "flag": True, "none": None}, []),
    ],
)
def test_the_addresses_in_arguments_are_found(arguments: dict[str, Any], addresses: list[str]) -> None:
    assert sorted(requested_addresses(arguments)) == sorted(addresses)
