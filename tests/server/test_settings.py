"""The source of each setting, and the messages about invalid values."""

from pathlib import Path

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.settings import load


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default() -> None:
    configuration = load(
        {"port": "1"},
        {"PORTICO_PORT": "2", "PORTICO_LOAD_TIMEOUT": "2"},
        {"port": 3, "load_timeout": 3, "keep_alive": 3},
    )
    settings = configuration.settings
    assert (settings.port, settings.load_timeout, settings.keep_alive, settings.host) == (
        1,
        2.0,
        3.0,
        "127.0.0.1",
    )
    assert [configuration.origins[name] for name in ("port", "load_timeout", "keep_alive", "host")] == [
        "flag",
        "environment",
        "file",
        "default",
    ]


def test_models_are_stored_in_the_home_folder_by_default(tmp_path: Path) -> None:
    assert load({"home": str(tmp_path)}, {}).settings.models == tmp_path / "models"
    assert load({"home": str(tmp_path), "models": "/m"}, {}).settings.models == Path("/m")


@pytest.mark.parametrize(
    ("flags", "environment", "file", "message"),
    [
        ({"port": "web"}, {}, None, "--port is 'web'"),
        ({}, {"PORTICO_OFFLINE": "maybe"}, None, "PORTICO_OFFLINE is 'maybe', but must be true or false"),
        ({}, {"PORTICO_LOG_LEVEL": "loud"}, None, "one of debug, info"),
        ({}, {}, {"prot": 1}, "Did you mean 'port'"),
        ({}, {}, {"port": -1}, "port is '-1'"),
    ],
)
def test_a_wrong_value_is_named_with_its_source(
    flags: dict[str, str], environment: dict[str, str], file: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        load(flags, environment, file)


def test_secrets_are_never_shown() -> None:
    rows = load({}, {"PORTICO_API_KEY": "pk-very-secret"}).describe()
    assert {row.name: row.value for row in rows}["api_key"] == "(set)"
    assert all("very-secret" not in str(row.value) for row in rows)


@pytest.mark.parametrize("name", ["kubernetes_node_selector", "kubernetes_service_account"])
def test_a_removed_setting_is_refused_with_its_successor(name: str) -> None:
    with pytest.raises(InvalidRequest, match="no longer exists: use 'kubernetes_template'"):
        load(file={name: "gpu"}, environment={})
    variable = f"PORTICO_{name.upper()}"
    with pytest.raises(InvalidRequest, match=f"{variable} no longer exists: use PORTICO_KUBERNETES_TEMPLATE"):
        load(environment={variable: "gpu"})
