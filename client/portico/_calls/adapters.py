"""Requests about adapters and about tokens, as `portico._calls` has the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico import _read as read
from portico._calls.call import Call, Message, at, given, named
from portico.errors import NotPortico
from portico.values import Adapter, Tokens


def adapters_list(base: str | None) -> Call[list[Adapter]]:
    return Call("GET", "/api/adapters", read.rows(_adapter), query=given(base=base))


def adapter_get(name: str) -> Call[Adapter]:
    return Call("GET", _one(name), _adapter)


def adapter_add(base: str, path: str, name: str, scale: float) -> Call[Adapter]:
    body = {"base": base, "path": path, "name": name, "scale": scale}
    return Call("POST", "/api/adapters", _adapter, json=body, slow=True)


def adapter_scale(name: str, scale: float) -> Call[Adapter]:
    return Call("PATCH", _one(name), _adapter, json={"scale": scale}, slow=True)


def adapter_export(name: str, path: str, merged: bool, form: str, kind: str) -> Call[str]:
    body = {"path": path, "merged": merged, "format": form, "type": kind}
    return Call("POST", f"{_one(name)}/export", read.text_of("run"), json=body)


def adapter_remove(name: str) -> Call[None]:
    return Call("DELETE", _one(name), read.nothing, slow=True)


def tokenize(
    text: str | Sequence[Message], model: str, add_special_tokens: bool | None, texts: bool
) -> Call[Tokens]:
    asked: dict[str, Any] = {"prompt": text} if isinstance(text, str) else {"messages": list(text)}
    body = given(model=model, **asked, add_special_tokens=add_special_tokens, return_token_strs=texts or None)
    return Call("POST", "/tokenize", _tokens, json=body, slow=True)


def detokenize(tokens: Sequence[int], model: str) -> Call[str]:
    body = {"model": model, "tokens": list(tokens)}
    return Call("POST", "/detokenize", read.text_of("prompt"), json=body, slow=True)


def _one(name: str) -> str:
    return at("api", "adapters", named(name, "an adapter"))


def _adapter(value: Any) -> Adapter:
    targets = value.get("targets") if isinstance(value, Mapping) else None
    return read.value_of(Adapter, value, targets=tuple(targets or ()))


def _tokens(value: Any) -> Tokens:
    if not isinstance(value, Mapping) or not isinstance(value.get("tokens"), list):
        raise NotPortico("The answer holds no list 'tokens'. Is there a Portico daemon at this URL?")
    texts = value.get("token_strs")
    return read.value_of(
        Tokens, value, tokens=tuple(value["tokens"]), texts=tuple(texts) if texts is not None else None
    )
