"""Names: which are valid, and which every endpoint refuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.daemon import Daemon

from portico_server.core.errors import InvalidRequest
from portico_server.core.names import check_name, check_plain, is_name, is_plain
from portico_server.core.prompts.spec import parse
from portico_server.features.stores.names import store_name

GOOD = [
    "docs",
    "Ada's notes",
    "R&D (2024)",
    "手册",
    "کتاب‌ها",
    "👩‍👩‍👧 family",
    "a" * 128,
    "naïve.v2",
    "50 % {draft}",
]
ODD = [
    *("[b]second", "<script>", "`rm`", "a]", "line\nbreak", "tab\there", "bell\a", "\x1b[2J", "nul\0"),
    *("rtl\u202eexe", "zero\u200bwidth", "tag\U000e0041", "half\ud83d", "\u2028", "c1\x9b"),
    *("\u3164", "docs\u2800", "docs\u034f", "\u115fdocs"),
]


@pytest.mark.parametrize("name", GOOD)
def test_names_in_any_script_are_accepted(name: str) -> None:
    assert is_name(name)
    check_name(name, "a thing")


@pytest.mark.parametrize("name", ODD)
def test_names_with_control_or_markup_characters_are_refused(name: str) -> None:
    assert not is_plain(name) and not is_name(name)
    for check in (check_plain, check_name):
        with pytest.raises(InvalidRequest) as error_info:
            check(name, "a thing", "here")
        assert error_info.value.code == "invalid_name" and error_info.value.param == "here"
        error_info.value.message.encode()
        assert error_info.value.message.replace("[ ] < > `", "").isprintable()


@pytest.mark.parametrize("name", [".", "..", "...", "a/..", "./a"])
def test_names_and_name_segments_of_dots_only_are_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidRequest):
        check_plain(name, "a model")
    with pytest.raises(InvalidRequest):
        parse({"name": f"a/{name}", "messages": "x"})


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "a:b", "a\\b", "a" * 129, "*"])
def test_characters_reserved_in_urls_or_scopes_are_invalid_in_names(name: str) -> None:
    assert is_plain(name) and not is_name(name)


def test_reserved_characters_of_a_folder_name_are_replaced_in_the_store_name() -> None:
    assert store_name("notes [old] <2>") == "notes -old- -2-"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/deployments", {"source": "fake://"}),
        ("/api/stores", {}),
        ("/api/keys", {"scopes": ["chat"]}),
        ("/api/tool-sources", {"command": ["true"]}),
        ("/api/mcp/servers", {"command": ["true"]}),
    ],
)
def test_every_endpoint_refuses_names_with_markup_or_control_characters(
    daemon: Daemon, path: str, body: dict[str, Any]
) -> None:
    for name in ("[b]second", "line\nbreak", "rtl\u202eexe"):
        answer = httpx.post(f"{daemon.url}{path}", json={**body, "name": name}, timeout=60)
        assert answer.status_code == 400, answer.text
        assert str(answer.json()["error"]["param"]).endswith("name")
        assert "\u202e" not in answer.text


def test_vector_store_titles_allow_brackets_but_not_control_characters(daemon: Daemon) -> None:
    response = httpx.post(f"{daemon.url}/v1/vector_stores", json={"name": "Docs [2024]"}, timeout=60)
    assert response.status_code == 200 and response.json()["name"] == "Docs [2024]"
    url = f"{daemon.url}/v1/vector_stores"
    for address in (url, f"{url}/{response.json()['id']}"):
        refusal = httpx.post(address, json={"name": "a\x1b[2Jb"}, timeout=60)
        assert refusal.status_code == 400 and refusal.json()["error"]["param"] == "name"


def test_the_home_folder_is_shown_only_to_admins(daemon: Daemon) -> None:
    # Keep this test last in the module: once the first key exists, invalid keys are refused.
    key = httpx.post(f"{daemon.url}/api/keys", json={"name": "phone", "scopes": ["chat"]}, timeout=60).json()
    status_response = httpx.get(
        f"{daemon.url}/api/status", headers={"Authorization": f"Bearer {key['key']}"}, timeout=30
    )
    assert (
        status_response.status_code == 200
        and status_response.json()["home"] == ""
        and str(daemon.home) not in status_response.text
    )
    assert httpx.get(f"{daemon.url}/api/status", timeout=60).json()["home"] == str(daemon.home)
