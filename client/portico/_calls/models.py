"""Requests about models, deployments and engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico import _read as read
from portico._calls.call import Call, at, given, named
from portico.values import (
    BetterModel,
    Deployment,
    Embeddings,
    Engine,
    Finding,
    Model,
    Plan,
)


def models_list() -> Call[list[Model]]:
    return Call("GET", "/v1/models", read.rows(read.model))


def models_pull(source: str) -> Call[str]:
    return Call("POST", "/api/models/pull", read.text_of("run"), json={"source": source})


def models_plan(model: str, hardware: str | None, parameters: Mapping[str, Any] | None) -> Call[Plan]:
    body = given(model=model, hardware=hardware, parameters=dict(parameters) if parameters else None)
    return Call("POST", "/api/models/plan", read.plan, json=body)


def models_alias(name: str, target: str) -> Call[None]:
    return Call("PUT", at("api", "aliases", named(name, "an alias")), read.nothing, json={"target": target})


def deployments_list() -> Call[list[Deployment]]:
    return Call("GET", "/api/deployments", read.rows(read.deployment))


def deployment(method: str, name: str) -> Call[Deployment]:
    return Call(method, at("api", "deployments", named(name, "a model")), read.deployment)


def deployment_add(
    name: str,
    source: str,
    engine: str | None,
    task: str | None,
    parameters: Mapping[str, Any] | None,
    api_key: str | None,
    aliases: Sequence[str],
    **more: Any,
) -> Call[Deployment]:
    body = given(
        name=name,
        source=source,
        engine=engine,
        task=task,
        parameters=dict(parameters) if parameters else None,
        api_key=api_key,
        aliases=list(aliases) or None,
        **more,
    )
    return Call("POST", "/api/deployments", read.deployment, json=body)


def better_model() -> Call[BetterModel]:
    return Call("GET", "/api/models/better", read.better_model, slow=True)


def better_decide(accept: bool) -> Call[str | None]:
    return Call("POST", "/api/models/better", read.decided, json={"accept": accept})


def deployment_remove(name: str) -> Call[None]:
    return Call("DELETE", at("api", "deployments", named(name, "a model")), read.nothing)


def deployment_turn(name: str, action: str) -> Call[Deployment]:
    path = at("api", "deployments", named(name, "a model"), action)
    return Call("POST", path, read.deployment, slow=True)


def deployment_logs(name: str, lines: int) -> Call[list[str]]:
    path = at("api", "deployments", named(name, "a model"), "logs")
    return Call("GET", path, read.rows(str), query={"lines": lines})


def engines_list() -> Call[list[Engine]]:
    return Call("GET", "/api/engines", read.rows(read.engine))


def engine_install(name: str, rebuild: bool) -> Call[str]:
    path = at("api", "engines", named(name, "an engine"), "install")
    return Call("POST", path, read.text_of("run"), json={"rebuild": rebuild})


def engine_doctor(name: str) -> Call[list[Finding]]:
    path = at("api", "engines", named(name, "an engine"), "doctor")
    return Call("POST", path, read.rows(read.finding), slow=True)


def engine_remove(name: str) -> Call[None]:
    return Call("DELETE", at("api", "engines", named(name, "an engine")), read.nothing, slow=True)


def embed(texts: str | Sequence[str], model: str, dimensions: int | None) -> Call[Embeddings]:
    body = given(
        model=model,
        input=[texts] if isinstance(texts, str) else list(texts),
        dimensions=dimensions,
        encoding_format="base64",
    )
    return Call("POST", "/v1/embeddings", read.embeddings, json=body, slow=True)
