"""The configuration of a package: its contents as a file for any daemon, with variables in place of secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.secret_values import SECRET_NAME
from portico_server.features.mcp_servers.spec import ServerSpec
from portico_server.features.package.contents import PackageContents, PackagedStore
from portico_server.features.package.request import Inclusion
from portico_server.features.package.targets import yaml_text
from portico_server.features.sources import spec as store_sources
from portico_server.features.tools.entry import ToolEntry
from portico_server.features.tools.sources.spec import ToolSpec
from portico_server.models.service import ModelService
from portico_server.models.sources import ModelSource, parse_source
from portico_server.models.spec import ModelSpec
from portico_server.settings import Settings

MAX_MODEL_BYTES: Final = 16 * 2**30
"""Maximum size of the files of one model in a package, in bytes."""

MAX_CODE_BYTES: Final = 4 * 2**20
"""Maximum size of the files of one tool, in bytes."""

MAX_MODEL_FILES: Final = 500

MIN_SECRET_CHARS: Final = 8
"""Minimum length of a secret that is searched for in all texts. A shorter secret could be an ordinary word."""

SETTINGS: Final = (
    *("unsupported_claims", "flow_value_mb", "flow_run_mb", "redact", "redact_pattern", "ocr_languages"),
    *("tool_approval", "approvals", "tool_hosts", "web_search", "web_search_url", "max_file_mb"),
)
"""Settings that affect answers; they are packaged if they differ from the default."""


class VariableText(str):
    """A ``${NAME}`` that is written literally; in all other texts, ``${NAME}`` is escaped."""

    __slots__ = ()


@dataclass(slots=True)
class SecretVariables:
    """The variables that replace secrets.

    ``purposes``: the purpose of each variable; ``values``: the secrets, which are never written.
    """

    purposes: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    _names: dict[tuple[str, ...], str] = field(default_factory=dict)

    def of(self, value: str, purpose: str, *place: str) -> VariableText:
        """Return the reference that replaces ``value``. The variable is named after ``place``: the resource and the
        field.
        """
        name = self._names.get(place)
        if name is None:
            stem = re.sub(r"[^A-Z0-9]+", "_", "_".join(place).upper()).strip("_")
            name, number = stem, 2
            while name in self.purposes:
                name, number = f"{stem}_{number}", number + 1
            self._names[place] = name
        self.add(name, purpose, value)
        return VariableText(f"${{{name}}}")

    def add(self, name: str, purpose: str, value: str = "") -> None:
        """Add a variable with a fixed name."""
        self.purposes[name] = purpose
        if len(value) >= MIN_SECRET_CHARS:
            self.values[value] = name

    def example(self) -> str:
        """Return the file ``.env.example``."""
        lines = [
            "# Copy this file to .env, fill it in, and keep it private: chmod 600 .env",
            *(line for name in sorted(self.purposes) for line in (f"# {self.purposes[name]}", f"{name}=")),
        ]
        return "\n".join(lines) + "\n"

    def require_absent(self, name: str, text: str) -> None:
        """Raise `Conflict` if a text of the package contains a secret."""
        for value, variable in self.values.items():
            if value in text:
                raise Conflict(
                    f"{name} contains the value of the secret {variable}. Remove it from the app, for "
                    "example with a tool whose headers contain it, and redeploy the app.",
                    code="secret_in_package",
                    param="name",
                )


@dataclass(slots=True)
class PackageDocument:
    """A ``portico.yaml`` and its files. ``texts``: entries below ``app/``; ``files``: files to copy."""

    yaml: str
    texts: dict[str, str]
    files: dict[str, Path]
    references: SecretVariables
    models: list[dict[str, Any]]
    """The models, in the format of the manifest."""


class DocumentWriter:
    """A writer of one document.

    ``include_models``: also package model files of this machine. ``admin``: the caller is an admin. Blocks, because it
    reads files.
    """

    def __init__(
        self,
        contents: PackageContents,
        models: ModelService,
        settings: Settings,
        *,
        include_models: bool,
        stores: Inclusion,
        admin: bool,
    ) -> None:
        self._contents = contents
        self._admin = admin
        self._service = models
        self._settings = settings
        self._include_models = include_models
        self._stores = stores
        self._references = SecretVariables()
        self._texts: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self._models: list[dict[str, Any]] = []

    def write(self) -> PackageDocument:
        """Return the whole document. Raise `Conflict` for anything that cannot leave this machine."""
        package_contents = self._contents
        self._references.add("PORTICO_API_KEY", "A key of your choice for the administrator of the daemon")
        document: dict[str, Any] = {
            "models": [
                self._model(package_contents.models[name]) for name in sorted(package_contents.models)
            ],
            "stores": [
                self._store(package_contents.stores[name]) for name in sorted(package_contents.stores)
            ],
            "tools": [self._tool(package_contents.tools[name]) for name in sorted(package_contents.tools)],
            "mcp": [
                self._server(package_contents.servers[name]) for name in sorted(package_contents.servers)
            ],
            "prompts": [
                package_contents.prompts[name].spec.to_json() for name in sorted(package_contents.prompts)
            ],
            "skills": [
                {"name": name, "folder": skill_archive_of(name)} for name in sorted(package_contents.skills)
            ],
            "apps": [self._app(name) for name in sorted(package_contents.apps)],
            "settings": self._setting_values(),
        }
        self._know_secrets()
        text = _yaml(document)
        for name, content in self._searched(document, text).items():
            self._references.require_absent(name, content)
        return PackageDocument(text, self._texts, self._files, self._references, self._models)

    def _searched(self, document: Mapping[str, Any], text: str) -> dict[str, str]:
        """Return the texts that must not contain a secret. For a caller that is not an admin, return only texts that
        only admins can write.

        In a text that the caller itself can write, a refusal would confirm a guessed secret.
        """
        if self._admin:
            return {"portico.yaml": text, **self._texts}
        package_contents = self._contents
        apps = [name for name, app in package_contents.apps.items() if app.row.owner is None]
        prompts = [
            prompt.spec.to_json() for prompt in package_contents.prompts.values() if prompt.owner is None
        ]
        sections = {key: document[key] for key in ("models", "tools", "mcp", "settings")}
        return {
            "portico.yaml": _yaml({**sections, "prompts": prompts}),
            **{file: self._texts[file] for file in map(_app_file, apps)},
        }

    def _model(self, spec: ModelSpec) -> dict[str, Any]:
        source, files = self._source(spec)
        entry: dict[str, Any] = {"name": spec.name, "source": source}
        plain = ModelSpec(spec.name, spec.source).to_json()
        for key, value in spec.to_json().items():
            if value != plain[key] and key not in ("aliases", "api_key", "adapters", "replicas"):
                entry[key] = value
        if spec.api_key:
            entry["api_key"] = self._references.of(
                spec.api_key, f"The key of the model '{spec.name}'", "model", spec.name, "api_key"
            )
        elif parse_source(spec.source).scheme == "remote":
            self._provider_key(spec)
        if "parameters" in entry:
            entry["parameters"] = self._without_secrets(
                entry["parameters"], f"the model '{spec.name}'", "model", spec.name
            )
        if isinstance(spec.replicas, int):
            if spec.replicas != 1:
                entry["replicas"] = spec.replicas
        else:
            entry["replicas"] = [self._further(spec, replica) for replica in spec.replicas]
        if aliases := self._contents.aliases.get(spec.name):
            entry["aliases"] = list(aliases)
        if adapters := self._contents.adapters.get(spec.name):
            entry["adapters"] = [
                self._adapter(name, path, scale)
                for name, path, scale in sorted(
                    {
                        (adapter_scale.name, adapter_scale.path, adapter_scale.scale)
                        for adapter_scale in adapters
                    }
                )
            ]
        self._models.append({"name": spec.name, "source": str(source), "files": files})
        return entry

    def _source(self, spec: ModelSpec) -> tuple[str, list[dict[str, Any]]]:
        """Return the source of a model in the package, pinned to its version if known, and the source's files."""
        source = parse_source(spec.source)
        if source.scheme == "file":
            return self._local(spec.name, Path(source.location)), []
        if source.scheme == "fake" and source.location:
            return f"fake://{self._local(spec.name, Path(source.location).absolute())}", []
        if source.scheme in ("http", "https") and _holds_secret(spec.source):
            return self._references.of(
                spec.source, f"The address of the model '{spec.name}'", "model", spec.name, "source"
            ), []
        receipt = self._service.downloads.receipt(source)
        if receipt is None:
            if source.fetchable and not source.revision:
                self._contents.notes.append(
                    f"The model '{spec.name}' has not been fetched on this machine, so its version is "
                    f"unknown: {spec.source} is resolved at the first start."
                )
            return spec.source, []
        files = [
            {"path": path, "bytes": receipt_file.size, "sha256": receipt_file.sha256}
            for path, receipt_file in sorted(receipt.files.items())
        ]
        if source.revision or not receipt.revision:
            return spec.source, files
        model_source = ModelSource(
            source.scheme, source.location, receipt.revision, source.file, source.model
        )
        return str(model_source), files

    def _further(self, spec: ModelSpec, source: str) -> str:
        model_source = parse_source(source)
        if model_source.scheme == "file" or (model_source.scheme == "fake" and model_source.location):
            raise _only_here(f"A replica of the model '{spec.name}'")
        if _holds_secret(source):
            purpose = f"The address of a replica of the model '{spec.name}'"
            return self._references.of(source, purpose, "model", spec.name, "replica", source)
        return source

    def _local(self, name: str, path: Path) -> str:
        """Add a model's local file or folder to the package. Return the path below ``app/``."""
        if not self._include_models:
            raise _only_here(f"The model '{name}'")
        return self._copied(path, f"models/{quote(name, safe='')}", f"The model '{name}'", MAX_MODEL_BYTES)

    def _adapter(self, name: str, path: Path, scale: float) -> dict[str, Any]:
        if not self._include_models:
            raise _only_here(f"The adapter '{name}'")
        package_path = self._copied(
            path, f"adapters/{quote(name, safe='')}", f"The adapter '{name}'", MAX_MODEL_BYTES
        )
        return {"name": name, "path": package_path, **({} if scale == 1.0 else {"scale": scale})}

    def _copied(self, path: Path, folder: str, subject: str, limit: int) -> str:
        """Add a file, or the files of a folder, below ``folder`` to the package. Return the new path."""
        if path.is_file():
            paths = {f"{folder}/{path.name}": path}
        else:
            inside = sorted(
                item for item in path.rglob("*") if item.is_file() and "__pycache__" not in item.parts
            )
            paths = {f"{folder}/{path.name}/{item.relative_to(path).as_posix()}": item for item in inside}
        size = sum(item.stat().st_size for item in paths.values())
        if not paths or len(paths) > MAX_MODEL_FILES or size > limit:
            raise Conflict(
                f"{subject} has {len(paths):,} files with {size:,} bytes at {path}; a package can contain up "
                f"to {MAX_MODEL_FILES} files with {limit:,} bytes. Put the files where the other machine can "
                "fetch them, and name that location.",
                code="too_large",
                param="models",
            )
        self._files |= paths
        return f"{folder}/{path.name}"

    def _provider_key(self, spec: ModelSpec) -> None:
        """Add the variable that contains the key of an online model."""
        import os

        # Imported in the function, so that only users of remote models pay for the import.
        from portico_server.models.engines.remote.providers import PROVIDERS, parse_provider

        name = parse_source(spec.source).location
        provider_spec = spec.parameters.get("providers", {}).get(name)
        preset = parse_provider(provider_spec, name) if provider_spec else PROVIDERS.get(name)
        if preset is not None and preset.key:
            purpose = f"The key of the provider {name}"
            self._references.add(preset.key, purpose, os.environ.get(preset.key, ""))

    def _store(self, store: PackagedStore) -> dict[str, Any]:
        row = store.row
        entry: dict[str, Any] = {"name": row.name}
        if self._stores == "include":
            entry["archive"] = archive_of(row.name)
        elif row.source is not None:
            source = store_sources.source_of(row.source).written()
            addresses = [source] if isinstance(source, str) else source
            entry["source"] = (
                [self._address(row.name, address) for address in addresses]
                if len(addresses) > 1
                else self._address(row.name, addresses[0])
            )
        elif row.folder is not None:
            purpose = f"The folder that the store '{row.name}' follows"
            entry["folder"] = self._references.of("", purpose, "store", row.name, "folder")
        else:
            raise Conflict(
                f"The store '{row.name}' follows neither a folder nor an address, so the package cannot "
                "refer to its source. Include its content (--stores include).",
                code="store_not_followed",
                param="stores",
            )
        if row.embedding_model:
            entry["embedding_model"] = row.embedding_model
        if row.description:
            entry["description"] = row.description
        entry |= {"app": store.app, "answers": row.answers}
        if row.search:
            entry["search"] = dict(row.search)
        if self._stores == "reference" and store.groups:
            entry["groups"] = [
                {
                    "name": group.name,
                    "parent": group.parent,
                    "chunking_strategy": dict(group.chunking),
                    "embedding_model": group.embedding_model,
                }
                for group in store.groups
            ]
        return entry

    def _address(self, store: str, source: str) -> str:
        if source.startswith("s3://"):
            for key, doc in (("s3_access_key", "Access key"), ("s3_secret_key", "Secret key")):
                if getattr(self._settings, key):
                    self._references.add(f"PORTICO_{key.upper()}", f"{doc} for s3:// buckets")
        if store_sources.may_log_in(source) and self._settings.source_logins:
            self._references.add("PORTICO_SOURCE_LOGINS", "Logins for the sources of stores")
        if not _holds_secret(source):
            return source
        return self._references.of(
            source, f"An address of the store '{store}'", "store", store, "source", source
        )

    def _tool(self, spec: ToolSpec) -> dict[str, Any]:
        entry = self._entry(spec, ToolSpec(spec.name), "tool")
        entry.pop("folder", None)
        if spec.kind == "function":
            folder = self._function_files(spec)
            if folder is not None:
                entry["folder"] = folder
        elif spec.kind == "openapi" and "://" not in spec.openapi:
            path = Path(spec.folder, spec.openapi)
            entry["openapi"] = self._copied(
                path, f"tools/{spec.name}", f"The tool '{spec.name}'", MAX_CODE_BYTES
            )
            entry["folder"] = "."
        elif spec.kind == "database":
            if "://" not in spec.database:
                raise _only_here(f"The database of the tool '{spec.name}'")
            if _holds_secret(spec.database):
                purpose = f"The address of the database of the tool '{spec.name}'"
                entry["database"] = self._references.of(spec.database, purpose, "tool", spec.name, "database")
        elif spec.kind == "command":
            self._needs_program(f"tool '{spec.name}'", spec)
        if spec.python:
            self._contents.notes.append(
                f"The tool '{spec.name}' uses the interpreter {spec.python}, which the other machine must "
                "also have."
            )
        if any("==" not in requirement for requirement in spec.requirements):
            self._contents.notes.append(
                f"The packages of the tool '{spec.name}' are not all pinned: {', '.join(spec.requirements)}."
            )
        return entry

    def _function_files(self, spec: ToolSpec) -> str | None:
        """Return the folder below ``app/`` with a function's module, or ``None`` if one of its packages contains the
        module.
        """
        module = spec.function.partition(":")[0].partition(".")[0]
        folder = Path(spec.folder)
        for path in (folder / f"{module}.py", folder / module):
            if path.exists():
                self._copied(path, f"tools/{spec.name}", f"The tool '{spec.name}'", MAX_CODE_BYTES)
                return f"tools/{spec.name}"
        if not spec.requirements:
            self._contents.notes.append(
                f"The module '{module}' of the tool '{spec.name}' is not in its folder: the other machine "
                "must provide it."
            )
        return None

    def _server(self, spec: ServerSpec) -> dict[str, Any]:
        entry = self._entry(spec, ServerSpec(spec.name), "mcp")
        entry.pop("folder", None)
        entry["prefix"] = spec.prefix
        if spec.command:
            self._needs_program(f"MCP server '{spec.name}'", spec)
        return entry

    def _needs_program(self, subject: str, spec: ToolEntry) -> None:
        self._contents.notes.append(
            f"The {subject} starts the program '{spec.command[0]}', which the other machine must provide: "
            "for an image, add it to the Dockerfile."
        )

    def _entry(self, spec: ToolEntry, plain: ToolEntry, kind: str) -> dict[str, Any]:
        """Return the non-default fields of a tool or a server, with references for possible secrets."""
        default = plain.to_json()
        entry = {key: value for key, value in spec.to_json().items() if value != default[key]}
        subject = f"the tool '{spec.name}'" if kind == "tool" else f"the MCP server '{spec.name}'"
        for key in ("env", "headers"):
            values: Mapping[str, str] = getattr(spec, key)
            if values:
                noun = "variable" if key == "env" else "header"
                entry[key] = {
                    name: self._references.of(value, f"The {noun} {name} of {subject}", kind, spec.name, name)
                    for name, value in sorted(values.items())
                }
        for key in ("url", "openapi"):
            address = entry.get(key)
            if isinstance(address, str) and _holds_secret(address):
                entry[key] = self._references.of(address, f"The address of {subject}", kind, spec.name, key)
        return {"name": spec.name, **entry}

    def _app(self, name: str) -> dict[str, Any]:
        app = self._contents.apps[name]
        file = _app_file(name)
        spec = {key: value for key, value in app.version.spec.items() if key != "name"}
        self._texts[file] = json.dumps(spec, ensure_ascii=False, indent=2) + "\n"
        entry: dict[str, Any] = {"name": name, "file": file}
        if app.row.limits:
            entry["limits"] = dict(app.row.limits)
        return entry

    def _setting_values(self) -> dict[str, Any]:
        setting_values = {}
        for item in fields(Settings):
            value = getattr(self._settings, item.name)
            if item.name in SETTINGS and value != item.default:
                setting_values[item.name] = self._setting(item.name, value)
        if self._settings.web_search_key and "web_search" in self._contents.builtin:
            self._references.add("PORTICO_WEB_SEARCH_KEY", "Key of the web search")
        if self._settings.hf_token and any(
            spec.source.startswith("hf://") for spec in self._contents.models.values()
        ):
            self._references.add("PORTICO_HF_TOKEN", "Token for gated hf:// repositories")
        return setting_values

    def _setting(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and _holds_secret(value):
            return self._references.of(value, f"The setting {name}", f"portico_{name}")
        return value

    def _know_secrets(self) -> None:
        """Add the daemon's own secrets, which must not occur in the package's texts either."""
        for item in fields(Settings):
            value = getattr(self._settings, item.name)
            if item.metadata["secret"] and isinstance(value, str) and len(value) >= MIN_SECRET_CHARS:
                self._references.values.setdefault(value, f"PORTICO_{item.name.upper()}")

    def _without_secrets(self, value: Any, subject: str, *place: str) -> Any:
        """Return a parameter in which variables replace paths, and values named key, token or password."""
        if isinstance(value, Mapping):
            return {key: self._hidden(key, item, subject, *place) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [
                self._without_secrets(item, subject, *place, str(number)) for number, item in enumerate(value)
            ]
        return value

    def _hidden(self, key: str, value: Any, subject: str, *place: str) -> Any:
        secret = isinstance(value, str) and (SECRET_NAME.search(key) is not None or _holds_secret(value))
        if isinstance(value, str) and not secret and Path(value).is_absolute():
            return self._references.of("", f"'{key}' of {subject}, a path on the other machine", *place, key)
        # in 'providers', the value is the name of an environment variable
        if secret and value and "providers" not in place:
            return self._references.of(value, f"'{key}' of {subject}", *place, key)
        return self._without_secrets(value, subject, *place, key)


def archive_of(store: str) -> str:
    """Return the path of a store's archive in a package, below ``app/``."""
    return f"stores/{quote(store, safe='')}.zip"


def skill_archive_of(name: str) -> str:
    """Return the path of a skill's archive in a package, below ``app/``."""
    return f"skills/{name}.zip"


def _app_file(name: str) -> str:
    return f"apps/{quote(name, safe='')}.json"


def _only_here(subject: str) -> Conflict:
    return Conflict(
        f"{subject} is a file that exists only on this machine. Include it (--models include), or name a "
        "source from which the other machine can fetch it.",
        code="only_on_this_machine",
        param="models",
    )


def _holds_secret(address: str) -> bool:
    """Return whether an address contains a password, or a query parameter that is named like a secret."""
    if "://" not in address:
        return False
    try:
        parts = urlsplit(address)
        return bool(parts.username or parts.password) or any(
            SECRET_NAME.search(name) for name, _value in parse_qsl(parts.query)
        )
    except ValueError as error:
        raise InvalidRequest(f"'{address[:80]}' is not an address.", param="name") from error


def _yaml(document: Mapping[str, Any]) -> str:
    """Return YAML in which ``${`` in a text is escaped."""
    about = (
        "The configuration of this app; secrets come from .env. Described in Portico's docs/configuration.md."
    )
    return yaml_text(_plain({key: value for key, value in document.items() if value}), about)


def _plain(value: Any) -> Any:
    """Return a value that YAML can write.

    In a text, the dollar of each ``${`` is escaped: it becomes the default of a variable that nobody sets.
    """
    if isinstance(value, VariableText):
        return str(value)
    if isinstance(value, str):
        return value.replace("${", "${PORTICO_DOLLAR:-$}{")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value
