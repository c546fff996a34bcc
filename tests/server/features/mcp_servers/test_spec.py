"""The valid settings of an external MCP server."""

from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.features.mcp_servers.spec import parse


def test_a_spec_is_unchanged_after_a_json_round_trip() -> None:
    server_spec = parse(
        {
            "name": "files",
            "command": ["npx", "-y", "x"],
            "env": {"PORT": 8080},
            "deny": ["write_*"],
            "prefix": "",
            "timeout": 5,
            "sampling": {"model": "default", "calls": 5},
        }
    )
    assert parse(server_spec.to_json()) == server_spec
    assert server_spec.env == {"PORT": "8080"} and server_spec.prefix == ""
    assert parse({"name": "a", "url": "https://x/mcp"}).prefix == "a_"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"command": ["x"]}, "name"),
        ({"name": "a b", "command": ["x"]}, "letters"),
        ({"name": "../x", "command": ["x"]}, "letters"),
        ({"name": "a"}, "either a 'command'"),
        ({"name": "a", "command": ["x"], "url": "http://x"}, "either a 'command'"),
        ({"name": "a", "command": "npx -y x"}, "command must be a list"),
        ({"name": "a", "command": ["x", 7]}, "command must be a list"),
        ({"name": "a", "command": ["x\0"]}, "command must be a list"),
        ({"name": "a", "url": "file:///x"}, "http"),
        ({"name": "a", "url": "x"}, "http"),
        ({"name": "a", "command": ["x"], "env": ["A=b"]}, "env must be a mapping"),
        ({"name": "a", "command": ["x"], "env": {"A": ["b"]}}, "env must be a mapping"),
        ({"name": "a", "command": ["x"], "timeout": 0}, "timeout"),
        ({"name": "a", "command": ["x"], "timeout": True}, "timeout"),
        ({"name": "a", "command": ["x"], "sampling": True}, "sampling must be a mapping"),
        ({"name": "a", "command": ["x"], "sampling": {}}, "sampling.model is missing"),
        ({"name": "a", "command": ["x"], "sampling": {"model": "m", "calls": 0}}, "sampling.calls is 0"),
        ({"name": "a", "command": ["x"], "sampling": {"model": "m", "call": 1}}, "no field 'call'"),
        ({"name": "a", "command": ["x"], "enviroment": {}}, "no field 'enviroment'"),
    ],
)
def test_an_invalid_field_is_refused_with_the_reason(item: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(item)
