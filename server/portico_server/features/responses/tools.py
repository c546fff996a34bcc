"""Parsing of a request's ``tools`` and ``tool_choice`` into values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from portico_server.core import fields, json_values
from portico_server.core.invalid import missing, not_one_of, unsupported, wrong
from portico_server.core.media import size_of
from portico_server.features.responses.items import EXECUTIONS
from portico_server.features.responses.request import (
    ApplyPatchTool,
    Approvals,
    CodeInterpreterTool,
    DeclaredTool,
    FileSearchTool,
    FunctionTool,
    ImageGenerationTool,
    LocalShellTool,
    McpTool,
    NamespaceTool,
    ShellSkill,
    ShellTool,
    Tool,
    ToolChoice,
    ToolSearchTool,
    functions_of,
)
from portico_server.features.responses.tool_choice import read_choice

MAX_TOOLS: Final = 1_000
"""Maximum number of tools in a request. The context of a model, or its provider, can have a lower limit."""

MAX_SHELL_SKILLS: Final = 20

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTAINER = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_RANKERS: Final = {"none": "auto", "auto": "auto", "default-2024-11-15": "auto", "default_2024_08_21": "auto"}
_OWN_RANKERS: Final = ("lexical", "vector", "hybrid", "rrf")

_PICTURES: Final[Mapping[str, tuple[str, ...]]] = {
    "quality": ("auto", "low", "medium", "high", "xhigh", "max"),
    "background": ("auto", "opaque", "transparent"),
    "output_format": ("png", "jpeg", "webp"),
}
_SECRETS: Final = ("headers", "authorization")


def read(given_fields: Mapping[str, Any]) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return the tools of a request, in order, and the tool choice."""
    tool_list = json_values.items(given_fields.get("tools") or [], "tools", "a list of tools")
    declared_tools = parse_tools(tool_list, "tools")
    searches = [number for number, tool in enumerate(declared_tools) if isinstance(tool, ToolSearchTool)]
    if len(searches) > 1:
        wrong(f"tools[{searches[1]}]", "is a second 'tool_search'; only one is allowed")
    late = next((number for number, tool in enumerate(declared_tools) if _is_deferred(tool)), None)
    if late is not None and not searches:
        wrong(
            f"tools[{late}].defer_loading",
            'needs a tool search so that the model can find it: add {"type": "tool_search"} to \'tools\'',
        )
    return declared_tools, read_choice(given_fields.get("tool_choice", "auto"), declared_tools)


def parse_tools(tool_list: list[Any], at: str) -> tuple[Tool, ...]:
    """Parse a list of tools. Raise `InvalidRequest` if the list has more than `MAX_TOOLS` tools or functions."""
    if len(tool_list) > MAX_TOOLS:
        wrong(at, f"has {len(tool_list)} items; the maximum is {MAX_TOOLS}")
    tools = tuple(_tool(tool, f"{at}[{number}]") for number, tool in enumerate(tool_list))
    functions = functions_of(tools)
    if len(functions) > MAX_TOOLS:
        wrong(at, f"has {len(functions)} functions; the maximum is {MAX_TOOLS}")
    twice = [name for name, count in Counter(function.spoken for function in functions).items() if count > 1]
    if twice:
        wrong(at, f"lists the function '{twice[0]}' twice")
    return tools


def _is_deferred(tool: Tool) -> bool:
    if isinstance(tool, NamespaceTool):
        return any(function.deferred for function in tool.functions)
    return isinstance(tool, FunctionTool | McpTool) and tool.deferred


def as_shown(tools: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tools in the form in which a response repeats them."""
    shown_tools = []
    for tool in tools:
        shown_tool = {name: value for name, value in tool.items() if name not in _SECRETS}
        if shown_tool["type"] == "function":
            shown_tool = {"description": None, "parameters": None, "strict": False, **shown_tool}
        shown_tools.append(shown_tool)
    return shown_tools


def _tool(value: Any, at: str) -> Tool:
    given_fields = json_values.mapping(value, at, "an object with a 'type'")
    kind = json_values.needed(given_fields, "type", at)
    json_values.shallow(given_fields, at)
    reader = _READERS.get(kind)
    return reader(given_fields, at) if reader is not None else DeclaredTool(kind)


def _function(given_fields: Mapping[str, Any], at: str, namespace: str = "") -> FunctionTool:
    name = json_values.needed(given_fields, "name", at)
    if not _NAME.fullmatch(name):
        wrong(f"{at}.name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
    parameters = given_fields.get("parameters")
    if parameters is not None:
        fields.check_parameters(name, parameters, f"{at}.parameters")
    strict = given_fields.get("strict")
    return FunctionTool(
        name,
        json_values.text(given_fields.get("description") or "", f"{at}.description"),
        {} if parameters is None else parameters,
        None if strict is None else json_values.flag(strict, f"{at}.strict"),
        namespace,
        json_values.optional_flag(given_fields, "defer_loading", at),
    )


def _namespace(given_fields: Mapping[str, Any], at: str) -> NamespaceTool:
    name = json_values.needed(given_fields, "name", at)
    if not _NAME.fullmatch(name):
        wrong(f"{at}.name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
    functions = []
    for number, item in enumerate(
        json_values.items(given_fields.get("tools"), f"{at}.tools", "a list of functions")
    ):
        tool_path = f"{at}.tools[{number}]"
        inner = json_values.mapping(item, tool_path, "an object with a 'type'")
        kind = json_values.needed(inner, "type", tool_path)
        if kind not in ("function", "custom"):
            not_one_of(f"{tool_path}.type", kind, ("function", "custom"))
        if kind == "function":
            functions.append(_function(inner, tool_path, name))
    return NamespaceTool(name, json_values.needed(given_fields, "description", at), tuple(functions))


def _tool_search(given_fields: Mapping[str, Any], at: str) -> ToolSearchTool:
    execution = json_values.one_of(given_fields.get("execution") or "server", f"{at}.execution", EXECUTIONS)
    parameters = given_fields.get("parameters")
    if parameters is not None:
        fields.check_parameters("tool_search", parameters, f"{at}.parameters")
    description = json_values.text(given_fields.get("description") or "", f"{at}.description")
    return ToolSearchTool(execution == "client", description, parameters)


def _file_search(given_fields: Mapping[str, Any], at: str) -> FileSearchTool:
    stores = json_values.texts(given_fields.get("vector_store_ids") or [], f"{at}.vector_store_ids")
    if not stores:
        missing(f"{at}.vector_store_ids")
    ranking = json_values.mapping(given_fields.get("ranking_options") or {}, f"{at}.ranking_options")
    ranker = json_values.text(ranking.get("ranker") or "auto", f"{at}.ranking_options.ranker")
    if ranker not in _RANKERS and ranker not in _OWN_RANKERS:
        not_one_of(f"{at}.ranking_options.ranker", ranker, (*_RANKERS, *_OWN_RANKERS))
    max_results = given_fields.get("max_num_results")
    return FileSearchTool(
        tuple(dict.fromkeys(stores)),
        json_values.optional_mapping(given_fields, "filters", at),
        10 if max_results is None else json_values.integer(max_results, f"{at}.max_num_results", 1, 50),
        _RANKERS.get(ranker, ranker),
        json_values.number(
            ranking.get("score_threshold") or 0, f"{at}.ranking_options.score_threshold", 0, 1
        ),
        _vector_weight(ranking.get("hybrid_search"), f"{at}.ranking_options.hybrid_search"),
    )


def _vector_weight(value: Any, at: str) -> float | None:
    if value is None:
        return None
    weights = json_values.mapping(value, at)
    vectors, words = (
        json_values.number(weights.get(name), f"{at}.{name}", 0, 1e9)
        for name in ("embedding_weight", "text_weight")
    )
    if vectors + words == 0:
        wrong(at, "needs a weight greater than 0")
    return vectors / (vectors + words)


def _code(given_fields: Mapping[str, Any], at: str) -> CodeInterpreterTool:
    container = given_fields.get("container")
    if container is None:
        missing(f"{at}.container")
    if isinstance(container, str):
        if not _CONTAINER.fullmatch(container):
            wrong(f"{at}.container", "must be 1 to 64 letters, digits, dots, colons, dashes or underscores")
        return CodeInterpreterTool("" if container == "auto" else container)
    container_fields = json_values.mapping(
        container, f"{at}.container", "the id of a container or an object with a 'type'"
    )
    if container_fields.get("type") != "auto":
        not_one_of(f"{at}.container.type", container_fields.get("type"), ("auto",))
    policy = container_fields.get("network_policy")
    if isinstance(policy, dict) and policy.get("type") != "disabled":
        unsupported(f"{at}.container.network_policy", "is not supported: code runs without network access")
    files = json_values.texts(container_fields.get("file_ids") or [], f"{at}.container.file_ids")
    return CodeInterpreterTool("", tuple(files))


def _shell(given_fields: Mapping[str, Any], at: str) -> ShellTool:
    place = f"{at}.environment"
    environment = json_values.mapping(
        given_fields.get("environment") or {"type": "local"}, place, "an object with a 'type'"
    )
    kind = environment.get("type")
    skills = json_values.items(environment.get("skills") or [], f"{place}.skills")
    if len(skills) > MAX_SHELL_SKILLS:
        wrong(f"{place}.skills", f"has {len(skills)} items; the maximum is {MAX_SHELL_SKILLS}")
    if kind == "local":
        return ShellTool(
            skills=tuple(_local_skill(skill, f"{place}.skills[{n}]") for n, skill in enumerate(skills))
        )
    if kind == "container_reference":
        container = json_values.needed(environment, "container_id", place)
        if not _CONTAINER.fullmatch(container):
            wrong(f"{place}.container_id", "must be 1 to 64 letters, digits, dots, colons or dashes")
        return ShellTool(hosted=True, container=container)
    if kind != "container_auto":
        not_one_of(f"{place}.type", kind, ("container_auto", "container_reference", "local"))
    policy = environment.get("network_policy")
    if (
        policy is not None
        and json_values.mapping(policy, f"{place}.network_policy").get("type") != "disabled"
    ):
        unsupported(f"{place}.network_policy", "is not supported: code runs without network access")
    files = json_values.texts(environment.get("file_ids") or [], f"{place}.file_ids")
    shell_skills = tuple(_kept_skill(skill, f"{place}.skills[{n}]") for n, skill in enumerate(skills))
    return ShellTool(hosted=True, files=tuple(files), skills=shell_skills)


def _local_skill(value: Any, at: str) -> ShellSkill:
    given_fields = json_values.mapping(value, at)
    name, about, path = (json_values.needed(given_fields, key, at) for key in ("name", "description", "path"))
    return ShellSkill("", name, about, path)


def _kept_skill(value: Any, at: str) -> ShellSkill:
    given_fields = json_values.mapping(value, at, "an object with a 'type'")
    kind = given_fields.get("type")
    if kind == "skill_reference":
        version = given_fields.get("version")
        wanted_version = "default" if version is None else json_values.text(version, f"{at}.version")
        return ShellSkill(json_values.needed(given_fields, "skill_id", at), version=wanted_version)
    if kind != "inline":
        not_one_of(f"{at}.type", kind, ("skill_reference", "inline"))
    name, about = (
        json_values.needed(given_fields, "name", at),
        json_values.needed(given_fields, "description", at),
    )
    source = json_values.mapping(given_fields.get("source"), f"{at}.source")
    for key, wanted_version in (("type", "base64"), ("media_type", "application/zip")):
        if source.get(key) != wanted_version:
            not_one_of(f"{at}.source.{key}", source.get(key), (wanted_version,))
    return ShellSkill(
        "", name, about, f"/skills/{name}", archive=json_values.needed(source, "data", f"{at}.source")
    )


def _image(given_fields: Mapping[str, Any], at: str) -> ImageGenerationTool:
    for name in ("input_image_mask", "markup"):
        if given_fields.get(name) is not None:
            unsupported(f"{at}.{name}", "is not supported for this tool: send the images to /v1/images/edits")
    if given_fields.get("action") not in (None, "auto", "generate"):
        unsupported(f"{at}.action", "must be 'generate'; edit images with /v1/images/edits")
    options = {
        name: json_values.text(given_fields[name], f"{at}.{name}")
        for name in ("size", "quality", "background", "output_format")
        if given_fields.get(name) is not None
    }
    for name, words in _PICTURES.items():
        if options.get(name, words[0]) not in words:
            not_one_of(f"{at}.{name}", options[name], words)
    size_of(options.get("size", "auto"), f"{at}.size")
    return ImageGenerationTool(json_values.text(given_fields.get("model") or "", f"{at}.model"), options)


def _mcp(given_fields: Mapping[str, Any], at: str) -> McpTool:
    label = json_values.needed(given_fields, "server_label", at)
    for name in ("connector_id", "tunnel_id", *_SECRETS):
        if given_fields.get(name) is not None:
            unsupported(
                f"{at}.{name}",
                "is not accepted: the operator adds the servers and configures the access to them",
            )
    read_only: bool | None = None
    allowed_tools = given_fields.get("allowed_tools")
    if isinstance(allowed_tools, dict):
        if allowed_tools.get("read_only") is not None:
            read_only = json_values.flag(allowed_tools["read_only"], f"{at}.allowed_tools.read_only")
        allowed_tools = allowed_tools.get("tool_names")
    names = None if allowed_tools is None else tuple(json_values.texts(allowed_tools, f"{at}.allowed_tools"))
    approval = given_fields.get("require_approval") or "always"
    always: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    if isinstance(approval, dict):
        always, never = (
            _names(approval.get(word), f"{at}.require_approval.{word}") for word in ("always", "never")
        )
        approval = "never" if always and not never else "always"
    if approval not in ("always", "never"):
        not_one_of(f"{at}.require_approval", approval, ("always", "never"))
    url = json_values.text(given_fields.get("server_url") or "", f"{at}.server_url")
    default: Approvals = "never" if approval == "never" else "always"
    about = json_values.text(given_fields.get("server_description") or "", f"{at}.server_description")
    is_deferred = json_values.optional_flag(given_fields, "defer_loading", at)
    return McpTool(label, url, names, read_only, default, always, never, is_deferred, about)


def _names(value: Any, at: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(
        json_values.texts(json_values.mapping(value, at).get("tool_names") or [], f"{at}.tool_names")
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Tool]] = {
    "function": _function,
    "namespace": _namespace,
    "tool_search": _tool_search,
    "file_search": _file_search,
    "code_interpreter": _code,
    "image_generation": _image,
    "mcp": _mcp,
    "shell": _shell,
    "apply_patch": lambda _fields, _at: ApplyPatchTool(),
    "local_shell": lambda _fields, _at: LocalShellTool(),
}
