"""The table of editors and agents: where each keeps its configuration, and the values that connect it.

Sources, November 2026: code.claude.com/docs (mcp, settings, skills), developers.openai.com/codex (config-reference,
mcp, skills), opencode.ai/v1/docs (config, mcp-servers, providers, skills), zed.dev/docs/ai (mcp, llm-providers),
cursor.com/docs (mcp, skills), code.visualstudio.com/docs (mcp-servers, language-models, agent-skills),
block.github.io/goose/docs (config-files) and goose's declarative_providers.rs, junie.jetbrains.com/docs
(junie-cli-mcp-configuration), docs.continue.dev/reference.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from portico.connect.edit import Format
from portico.connect.setting import Entry, Settings
from portico.schemas.models import Model

DEFAULT_CONTEXT_TOKENS: Final = 32_768
"""Tokens of context of a model whose context is unknown, for clients that require a number."""

MAX_OUTPUT_SHARE: Final = 0.25
"""Largest share of the context that a client reserves for an answer."""


@dataclass(frozen=True, slots=True)
class DaemonAccess:
    """What a client needs to reach a daemon. ``model`` is the model that the client uses by default, or empty."""

    url: str
    key: str = field(repr=False)
    models: Sequence[Model] = ()
    model: str = ""

    @property
    def bearer(self) -> str:
        """The value of the header ``Authorization``."""
        return f"Bearer {self.key}"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file of a client.

    ``places`` are patterns of paths; the first one that exists is used, or else the first one. `PLACES` lists the
    variables. ``new_file`` are values that a file needs if it does not have them yet.
    """

    places: tuple[str, ...]
    file_format: Format
    settings: Callable[[DaemonAccess], Settings]
    new_file: Settings = field(default_factory=dict)

    def path(self) -> Path:
        """Return the path of the file on this machine."""
        paths = [resolve(place) for place in self.places]
        return next((path for path in paths if path.exists()), paths[0])


@dataclass(frozen=True, slots=True)
class Client:
    """An editor or agent. It creates ``folder`` at its first start. ``programs`` are the names of its executables.

    ``skills`` is its folder for skills, if it has one. ``note`` is what a person has to do in the client.
    """

    name: str
    title: str
    folder: str
    programs: tuple[str, ...]
    files: tuple[ConfigFile, ...]
    skills: str = ""
    note: str = ""

    def find(self) -> Path | None:
        """Return the client's folder, a file of its configuration or its program, or ``None`` if it is not installed.

        A client that has never been started has only a program. Programs in a folder ``sbin`` are daemons of the
        system: OpenZFS has a program ``zed``.
        """
        places = [resolve(self.folder), *(config_file.path() for config_file in self.files)]
        programs = (Path(path) for name in self.programs if (path := shutil.which(name)))
        return next(
            (path for path in places if path.exists()),
            next((path for path in programs if path.parent.name != "sbin"), None),
        )


def resolve(place: str) -> Path:
    """Return the path for a pattern such as ``{config}/zed/settings.json``."""
    home = Path.home()
    support = home / "Library" / "Application Support"
    roaming = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    claude = os.environ.get("CLAUDE_CONFIG_DIR")
    # By system: macOS, Windows, others.
    column = {"darwin": 0, "win32": 1}.get(sys.platform, 2)
    variables = {
        "home": home,
        "config": config,
        "claude": claude or home / ".claude",
        "claude_state": claude or home,
        "codex": os.environ.get("CODEX_HOME") or home / ".codex",
        "zed": (home / ".config" / "zed", roaming / "Zed", config / "zed")[column],
        "vscode": (support / "Code" / "User", roaming / "Code" / "User", config / "Code" / "User")[column],
        "goose": (home / ".config" / "goose", roaming / "Block" / "goose" / "config", config / "goose")[
            column
        ],
    }
    return Path(place.format_map(variables))


def _context(model: Model) -> int:
    return model.context_length or DEFAULT_CONTEXT_TOKENS


def _output(model: Model) -> int:
    share = int(_context(model) * MAX_OUTPUT_SHARE)
    return min(model.max_output_tokens or share, share)


def _sees(model: Model) -> bool:
    return "image" in (model.modalities.get("input") or ())


def _headers(link: DaemonAccess) -> dict[str, str]:
    return {"Authorization": link.bearer}


def _remote(link: DaemonAccess, **fields: Any) -> dict[str, Any]:
    """Return an MCP server in the form that most clients share."""
    return {**fields, "url": f"{link.url}/mcp", "headers": _headers(link)}


def _claude_model(link: DaemonAccess) -> Settings:
    values = {
        "ANTHROPIC_BASE_URL": link.url,
        "ANTHROPIC_AUTH_TOKEN": link.key,
        "ANTHROPIC_MODEL": link.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": link.model,
    }
    return {("env", name): value for name, value in values.items()} if link.model else {}


def _codex(link: DaemonAccess) -> Settings:
    provider = {
        "name": "Portico",
        "base_url": f"{link.url}/v1",
        "wire_api": "responses",
        "http_headers": _headers(link),
    }
    context = next((model.context_length for model in link.models if model.id == link.model), None)
    default = {("model_context_window",): context, ("model_provider",): "portico", ("model",): link.model}
    return {
        ("mcp_servers", "portico"): {"url": f"{link.url}/mcp", "http_headers": _headers(link)},
        ("model_providers", "portico"): provider,
        **({place: value for place, value in default.items() if value} if link.model else {}),
    }


def _opencode(link: DaemonAccess) -> Settings:
    models = {
        model.id: {
            "name": model.id,
            "tool_call": model.tools,
            "reasoning": bool(model.reasoning),
            "attachment": _sees(model),
            "limit": {"context": _context(model), "output": _output(model)},
        }
        for model in link.models
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Portico",
        "options": {"baseURL": f"{link.url}/v1", "apiKey": link.key},
        "models": models,
    }
    return {
        ("mcp", "portico"): _remote(link, type="remote") | {"oauth": False, "enabled": True},
        ("provider", "portico"): provider,
        **({("model",): f"portico/{link.model}"} if link.model else {}),
    }


def _zed(link: DaemonAccess) -> Settings:
    models = [
        {
            "name": model.id,
            "display_name": model.id,
            "max_tokens": _context(model),
            "max_output_tokens": _output(model),
            "capabilities": {
                "tools": model.tools,
                "images": _sees(model),
                "parallel_tool_calls": False,
                "prompt_cache_key": False,
            },
        }
        for model in link.models
    ]
    provider = {"api_url": f"{link.url}/v1", "available_models": models}
    default = {"provider": "Portico", "model": link.model}
    return {
        ("context_servers", "portico"): _remote(link),
        ("language_models", "openai_compatible", "Portico"): provider,
        **({("agent", "default_model"): default} if link.model else {}),
    }


def _vscode_models(link: DaemonAccess) -> Settings:
    models = [
        {
            "id": model.id,
            "name": model.id,
            "url": f"{link.url}/v1/chat/completions",
            "toolCalling": model.tools,
            "vision": _sees(model),
            "maxInputTokens": _context(model) - _output(model),
            "maxOutputTokens": _output(model),
            "requestHeaders": _headers(link),
        }
        for model in link.models
    ]
    group = {"name": "Portico", "vendor": "customendpoint", "apiType": "chat-completions", "models": models}
    return {(Entry("Portico"),): group}


def _goose(link: DaemonAccess) -> Settings:
    extension = {
        "enabled": True,
        "type": "streamable_http",
        "name": "portico",
        "description": "Documents, tools and agents of Portico",
        "uri": f"{link.url}/mcp",
        "headers": _headers(link),
        "envs": {},
        "env_keys": [],
        "timeout": 300,
    }
    default: Settings = {("GOOSE_PROVIDER",): "custom_portico", ("GOOSE_MODEL",): link.model}
    return {("extensions", "portico"): extension, **(default if link.model else {})}


def _goose_models(link: DaemonAccess) -> Settings:
    values = {
        "name": "custom_portico",
        "engine": "openai",
        "display_name": "Portico",
        "description": "Models and apps of Portico",
        "api_key_env": "",
        "requires_auth": False,
        "base_url": f"{link.url}/v1/chat/completions",
        "headers": _headers(link),
        "models": [{"name": model.id, "context_limit": _context(model)} for model in link.models],
        "supports_streaming": True,
    }
    return {(name,): value for name, value in values.items()}


def _continue(link: DaemonAccess) -> Settings:
    server = {
        "name": "Portico",
        "type": "streamable-http",
        "url": f"{link.url}/mcp",
        "requestOptions": {"headers": _headers(link)},
    }
    names = sorted(link.models, key=lambda model: model.id != link.model) if link.model else link.models
    models = {
        f"Portico: {model.id}": {
            "name": f"Portico: {model.id}",
            "provider": "openai",
            "model": model.id,
            "apiBase": f"{link.url}/v1",
            "apiKey": link.key,
            "roles": ["chat", "edit", "apply"],
            "capabilities": [
                *(["tool_use"] if model.tools else []),
                *(["image_input"] if _sees(model) else []),
            ],
            "defaultCompletionOptions": {"contextLength": _context(model), "maxTokens": _output(model)},
        }
        for model in names
    }
    return {
        **{("models", Entry(name)): model for name, model in models.items()},
        ("mcpServers", Entry("Portico")): server,
    }


def _servers(key: str, **fields: Any) -> Callable[[DaemonAccess], Settings]:
    return lambda link: {(key, "portico"): _remote(link, **fields)}


_CLIENTS: Final = (
    Client(
        "claude-code",
        "Claude Code",
        "{claude}",
        ("claude",),
        (
            ConfigFile(("{claude_state}/.claude.json",), "JSON", _servers("mcpServers", type="http")),
            ConfigFile(("{claude}/settings.json",), "JSON", _claude_model),
        ),
        skills="{claude}/skills",
    ),
    Client(
        "codex",
        "Codex",
        "{codex}",
        ("codex",),
        (ConfigFile(("{codex}/config.toml",), "TOML", _codex),),
        skills="{home}/.agents/skills",
    ),
    Client(
        "opencode",
        "OpenCode",
        "{config}/opencode",
        ("opencode",),
        (
            ConfigFile(
                ("{config}/opencode/opencode.json", "{config}/opencode/opencode.jsonc"), "JSON", _opencode
            ),
        ),
        skills="{config}/opencode/skills",
    ),
    Client(
        "zed",
        "Zed",
        "{zed}",
        ("zed", "zeditor"),
        (ConfigFile(("{zed}/settings.json",), "JSON", _zed),),
        note="Zed keeps the keys of models in the system's keychain: paste the key of 'headers' once, in the "
        "settings of the agent panel.",
    ),
    Client(
        "cursor",
        "Cursor",
        "{home}/.cursor",
        ("cursor", "cursor-agent"),
        (ConfigFile(("{home}/.cursor/mcp.json",), "JSON", _servers("mcpServers")),),
        skills="{home}/.cursor/skills",
    ),
    Client(
        "vscode",
        "VS Code",
        "{vscode}",
        ("code",),
        (
            ConfigFile(("{vscode}/mcp.json",), "JSON", _servers("servers", type="http")),
            ConfigFile(("{vscode}/chatLanguageModels.json",), "JSON", _vscode_models),
        ),
        skills="{home}/.copilot/skills",
    ),
    Client(
        "goose",
        "Goose",
        "{goose}",
        ("goose",),
        (
            ConfigFile(("{goose}/config.yaml",), "YAML", _goose),
            ConfigFile(("{goose}/custom_providers/custom_portico.json",), "JSON", _goose_models),
        ),
        skills="{goose}/skills",
    ),
    Client(
        "jetbrains",
        "JetBrains (Junie)",
        "{home}/.junie",
        ("junie",),
        (ConfigFile(("{home}/.junie/mcp/mcp.json",), "JSON", _servers("mcpServers")),),
        skills="{home}/.junie/skills",
    ),
    Client(
        "continue",
        "Continue",
        "{home}/.continue",
        ("cn",),
        (
            ConfigFile(
                ("{home}/.continue/config.yaml",),
                "YAML",
                _continue,
                new_file={("name",): "Local config", ("version",): "1.0.0", ("schema",): "v1"},
            ),
        ),
        skills="{home}/.continue/skills",
    ),
)

CLIENTS: Final[Mapping[str, Client]] = {client.name: client for client in _CLIENTS}
"""The clients that can be connected, by name."""
