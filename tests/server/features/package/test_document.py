"""The configuration of a package: secrets become variables, sources are pinned, texts stay unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from portico._document import expand
from portico_server import config
from portico_server.core.errors import Conflict
from portico_server.core.relay import AdapterScale
from portico_server.db.apps import AppRow, VersionRow
from portico_server.features.mcp_servers.spec import parse as parse_server
from portico_server.features.package.contents import PackageContents, PackagedApp
from portico_server.features.package.document import DocumentWriter, PackageDocument
from portico_server.features.tools.sources.spec import parse as parse_tool
from portico_server.models.sources import ModelSource
from portico_server.models.sources.receipt import DownloadReceipt, ReceiptFile
from portico_server.models.spec import ModelSpec
from portico_server.settings import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Fetched:
    """The result of a fetch: the GGUF file of one repository."""

    @property
    def downloads(self) -> Fetched:
        return self

    def receipt(self, source: ModelSource) -> DownloadReceipt | None:
        if source.scheme != "hf":
            return None
        return DownloadReceipt("m.gguf", COMMIT, {"m.gguf": ReceiptFile(7, "ab" * 32)})


def written(
    contents: PackageContents, settings: Settings | None = None, *, models: bool = False, admin: bool = True
) -> PackageDocument:
    writer = DocumentWriter(
        contents,
        Fetched(),  # type: ignore[arg-type]
        settings or Settings(),
        include_models=models,
        stores="include",
        admin=admin,
    )
    return writer.write()


def entry(document: PackageDocument, kind: str) -> dict[str, Any]:
    [object_entry] = yaml.safe_load(document.yaml)[kind]
    assert isinstance(object_entry, dict)
    return object_entry


def test_fetched_models_are_pinned_and_unfetched_models_are_noted() -> None:
    contents = PackageContents("app")
    contents.models = {
        "fetched": ModelSpec("fetched", "hf://ORG/REPO"),
        "later": ModelSpec("later", "pypi://some-model"),
    }
    document = written(contents)
    sources = {model["name"]: model["source"] for model in yaml.safe_load(document.yaml)["models"]}
    assert sources == {"fetched": f"hf://ORG/REPO@{COMMIT}", "later": "pypi://some-model"}
    assert document.models[0]["files"] == [{"path": "m.gguf", "bytes": 7, "sha256": "ab" * 32}]
    assert "'later' has not been fetched on this machine" in contents.notes[0]


def test_every_place_of_a_secret_becomes_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-provider-000")
    contents = PackageContents("app")
    contents.models = {
        "mine": ModelSpec("mine", "https://models.example/v1?key=sesame-opens#m", api_key="sk-a-long-one"),
        "theirs": ModelSpec(
            "theirs",
            "remote://openai/some",
            parameters={"extra": {"auth_token": "tok-secret-1"}, "mmproj": "/srv/of-mine/eye"},
        ),
    }
    contents.servers = {
        "hosted": parse_server(
            {
                "name": "hosted",
                "url": "https://mcp.example/mcp?token=t0ken-of-mine",
                "headers": {"X-Key": "a-header-secret"},
            }
        )
    }
    contents.tools = {
        "books": parse_tool({"name": "books", "database": "postgresql://me:pa55word-here@db.example/books"}),
    }
    document = written(contents)
    for secret in (
        "sesame-opens",
        "sk-a-long-one",
        "tok-secret-1",
        "t0ken-of-mine",
        "a-header-secret",
        "pa55word",
        "of-mine",
    ):
        assert secret not in document.yaml + document.references.example() + "".join(contents.notes)
    names = set(document.references.purposes)
    assert names == {
        *("MODEL_MINE_SOURCE", "MODEL_MINE_API_KEY", "MODEL_THEIRS_EXTRA_AUTH_TOKEN", "OPENAI_API_KEY"),
        "MODEL_THEIRS_MMPROJ",
        *("MCP_HOSTED_URL", "MCP_HOSTED_X_KEY", "TOOL_BOOKS_DATABASE", "PORTICO_API_KEY"),
    }
    filled = expand(yaml.safe_load(document.yaml), dict.fromkeys(names, "https://filled.example/v1#m"))
    assert config.parse(filled, Path("/"), None).of("mcp")[0].headers == {
        "X-Key": "https://filled.example/v1#m"
    }


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        (replace(Settings(), web_search_key="search-key-0001"), "search-key-0001"),
        (replace(Settings(), hf_token="hf-token-000002"), "hf-token-000002"),
    ],
)
def test_a_secret_of_the_daemon_that_stands_in_a_text_is_refused(settings: Settings, secret: str) -> None:
    contents = PackageContents("app")
    contents.models = {"m": ModelSpec("m", "fake://", description=f"Use {secret}")}
    with pytest.raises(Conflict, match=r"portico\.yaml contains the value of the secret PORTICO_"):
        written(contents, settings)


def test_a_key_does_not_learn_whether_what_it_wrote_is_a_secret() -> None:
    settings = replace(Settings(), web_search_key="search-key-0001")
    for owner in (None, "key_1"):
        contents = PackageContents("app")
        row = AppRow("app_1", "app", owner, "flow", 1, None, 0.0, 0.0)
        version = VersionRow(
            "app_1", 1, {"step": {"op": "llm", "system": "Say search-key-0001."}}, "", "", "", 0.0
        )
        contents.apps = {"app": PackagedApp(row, version)}
        if owner is None:
            with pytest.raises(Conflict, match=r"apps/app\.json contains the value"):
                written(contents, settings, admin=False)
        else:
            assert "search-key-0001" in written(contents, settings, admin=False).texts["apps/app.json"]
        with pytest.raises(Conflict, match=r"apps/app\.json contains the value"):
            written(contents, settings)


def test_dollar_signs_and_non_default_settings_survive_packaging() -> None:
    contents = PackageContents("app")
    text = "It costs ${PRICE}, or ${PRICE:-nothing}; $5 and ${ too"
    contents.models = {"m": ModelSpec("m", "fake://", description=text, replicas=2)}
    document = written(contents, replace(Settings(), unsupported_claims="remove", port=99))
    configuration = config.parse(yaml.safe_load(document.yaml), Path("/"), {})
    assert configuration.models[0] == contents.models["m"]
    assert configuration.settings == {"unsupported_claims": "remove"}


def test_a_package_includes_tool_code_and_adapter_files(tmp_path: Path) -> None:
    (tmp_path / "adder.py").write_text(
        "def add(a: int, b: int) -> int:\n    return a + b\n", encoding="utf-8"
    )
    adapter = tmp_path / "polite"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    contents = PackageContents("app")
    contents.models = {"m": ModelSpec("m", "hf://ORG/REPO")}
    contents.adapters = {"m": [AdapterScale("polite", adapter, 0.5)]}
    contents.tools = {"add": parse_tool({"name": "add", "function": "adder:add", "folder": str(tmp_path)})}
    with pytest.raises(Conflict, match="The adapter 'polite' is a file that exists only on this machine"):
        written(contents)
    document = written(contents, models=True)
    assert entry(document, "tools")["folder"] == "tools/add"
    assert entry(document, "models")["adapters"] == [
        {"name": "polite", "path": "adapters/polite/polite", "scale": 0.5}
    ]
    assert document.files == {
        "tools/add/adder.py": tmp_path / "adder.py",
        "adapters/polite/polite/adapter_config.json": adapter / "adapter_config.json",
    }
