"""`portico mcp server-json`, checked against the MCP registry's schema of 2025-12-11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.client.cli.conftest import Command

INPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "description": {"type": "string"},
        "isRequired": {"type": "boolean"},
        "isSecret": {"type": "boolean"},
        "value": {"type": "string"},
    },
}
KEY_VALUE: dict[str, Any] = {
    **INPUT,
    "required": ["name"],
    "properties": {
        **INPUT["properties"],
        "name": {"type": "string"},
        "variables": {"type": "object", "additionalProperties": {**INPUT, "additionalProperties": False}},
    },
    "additionalProperties": False,
}
TRANSPORT = {
    "type": "object",
    "required": ["type", "url"],
    "properties": {
        "type": {"const": "streamable-http"},
        "url": {"type": "string", "pattern": "^https?://[^\\s]+$"},
        "headers": {"type": "array", "items": KEY_VALUE},
    },
    "additionalProperties": False,
}
SERVER = {
    "type": "object",
    "required": ["$schema", "name", "description", "version"],
    "properties": {
        "$schema": {"const": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"},
        "name": {
            "type": "string",
            "minLength": 3,
            "maxLength": 200,
            "pattern": "^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$",
        },
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"type": "string", "maxLength": 255},
        "remotes": {"type": "array", "items": TRANSPORT},
        "packages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["registryType", "identifier", "transport"],
                "properties": {
                    "registryType": {"const": "oci"},
                    "identifier": {"type": "string"},
                    "runtimeHint": {"type": "string"},
                    "transport": TRANSPORT,
                    "runtimeArguments": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["type", "name"],
                            "properties": {
                                "type": {"const": "named"},
                                "name": {"type": "string"},
                                "value": {"type": "string"},
                            },
                            "additionalProperties": False,
                        },
                    },
                    "environmentVariables": {"type": "array", "items": KEY_VALUE},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
"""A restatement in our own words, limited to the fields that Portico prints; the original schema allows more."""

PUBLIC = ("--address", "https://portico.example.com")


def test_the_server_json_of_a_daemon_is_valid_and_reproducible(command: Command) -> None:
    done = command("mcp", "server-json", "com.example/portico", *PUBLIC)
    assert done.code == 0, done.err
    jsonschema.validate(done.json, SERVER)
    assert done.json["remotes"][0]["url"] == "https://portico.example.com/mcp"
    header = done.json["remotes"][0]["headers"][0]
    assert (header["name"], header["isSecret"], header["value"]) == ("Authorization", True, "Bearer {key}")
    assert "packages" not in done.json
    assert command("mcp", "server-json", "com.example/portico", *PUBLIC).out == done.out
    assert command("mcp", "server-json", "com.example/portico", "--json", *PUBLIC).json == done.json


def test_an_app_has_its_own_endpoint_and_words(command: Command, tmp_path: Path) -> None:
    assert command("stores", "add", str(tmp_path), "--name", "ledger").code == 0
    done = command("mcp", "server-json", "io.github.ada/handbook", "--app", "ledger", *PUBLIC)
    assert done.code == 0, done.err
    jsonschema.validate(done.json, SERVER)
    assert done.json["remotes"][0]["url"] == "https://portico.example.com/mcp/apps/ledger"
    missing = command("mcp", "server-json", "io.github.ada/handbook", "--app", "nothing", *PUBLIC)
    assert missing.code == 1 and "nothing" in missing.err


def test_an_image_is_a_package_and_needs_no_public_address(command: Command) -> None:
    image_options = ("--image", "ghcr.io/example/portico:1.2.0", "--version", "1.2.0")
    done = command("mcp", "server-json", "com.example/portico", *image_options)
    assert done.code == 0, done.err
    jsonschema.validate(done.json, SERVER)
    assert "remotes" not in done.json and done.json["version"] == "1.2.0"
    assert done.json["packages"][0]["identifier"] == "ghcr.io/example/portico:1.2.0"
    combined_result = command("mcp", "server-json", "com.example/portico", *image_options, *PUBLIC)
    assert {"remotes", "packages"} <= set(combined_result.json)


@pytest.mark.parametrize(
    ("arguments", "param", "words"),
    [
        (("portico", *PUBLIC), "name", "com.example/handbook"),
        (("com.example/a/b", *PUBLIC), "name", "one slash"),
        (("example/portico", *PUBLIC), "name", "domain"),
        (("com..example/portico", *PUBLIC), "name", "domain"),
        (("com.example/caf\u00e9", *PUBLIC), "name", "letters"),
        ((f"com.example/{'a' * 200}", *PUBLIC), "name", "200"),
        (("com.example/portico", "--description", "x" * 101, *PUBLIC), "description", "101"),
        (("com.example/portico", "--description", "one\ntwo", *PUBLIC), "description", "one line"),
        (("com.example/portico", "--title", "x" * 101, *PUBLIC), "title", "100"),
        (("com.example/portico", "--version", "^1.2", *PUBLIC), "version", "range"),
        (("com.example/portico", "--version", "1.x", *PUBLIC), "version", "range"),
        (("com.example/portico", "--version", "latest", *PUBLIC), "version", "latest"),
        (("com.example/portico", "--image", "portico"), "image", "ghcr.io"),
        (("com.example/portico", "--image", "ghcr.io/example/portico:latest"), "image", "latest"),
        (("com.example/portico",), "address", "--address"),
        (("com.example/portico", "--address", "http://portico.example.com"), "address", "https"),
        (("com.example/portico", "--address", "https://10.0.0.8"), "address", "reach"),
        (("com.example/portico", "--address", "https://user:pw@example.com"), "address", "reach"),
        (("com.example/portico", "--address", "https://[::1"), "address", "reach"),
    ],
)
def test_values_invalid_for_the_registry_are_refused_with_the_expected_form(
    command: Command, arguments: tuple[str, ...], param: str, words: str
) -> None:
    done = command("mcp", "server-json", *arguments)
    assert done.code == 1 and words in done.err and param in done.err, done
