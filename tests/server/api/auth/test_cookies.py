"""The names and paths of the sign-in cookies."""

from __future__ import annotations

import pytest

from portico_server.api.auth.cookies import SIGNED_IN, cookie, set_cookie


@pytest.mark.parametrize(
    ("base", "start", "attributes"),
    [
        ("http://127.0.0.1:8642", f"{SIGNED_IN}=s; Path=/;", "HttpOnly; SameSite=Strict"),
        ("https://example.org", f"__Host-{SIGNED_IN}=s; Path=/;", "HttpOnly; SameSite=Strict; Secure"),
        (
            "https://example.org/portico",
            f"__Secure-{SIGNED_IN}=s; Path=/portico/;",
            "HttpOnly; SameSite=Strict; Secure",
        ),
        ("http://box/a/b", f"{SIGNED_IN}=s; Path=/a/b/;", "HttpOnly; SameSite=Strict"),
    ],
)
def test_a_cookie_is_sent_only_below_the_daemons_address(base: str, start: str, attributes: str) -> None:
    header = set_cookie(SIGNED_IN, "s", base, same_site="Strict")
    assert header == f"{start} {attributes}"
    assert cookie({b"cookie": header.partition(";")[0].encode()}, SIGNED_IN, base) == "s"
