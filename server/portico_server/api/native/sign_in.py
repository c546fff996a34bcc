"""``/api/sign-in``: sign-in through an issuer on the web page. ``/api/whoami``: the caller, whatever the means of
authentication.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from portico.schemas.keys import Whoami
from portico_server.api.auth import cookies
from portico_server.api.auth.cookies import SIGNED_IN, STARTED
from portico_server.api.auth.credentials import OPERATOR
from portico_server.api.auth.sign_ins import CALLBACK, START, START_LIFE_S, SignInFailed
from portico_server.api.endpoint import Caller, TheAuth, TheServices, new_router
from portico_server.api.exchange import Exchange
from portico_server.api.services import ApiServices
from portico_server.core.errors import Forbidden
from portico_server.core.principal import LOCAL

router = new_router(tags=["Keys"])

_PRIVATE: Mapping[str, str] = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""Headers of responses that set cookies or contain an address with a code."""


class SignInRequest(BaseModel, extra="forbid"):
    """``issuer``: the issuer with which to sign in; optional if only one issuer is configured."""

    issuer: str | None = None


class StartedSignIn(BaseModel):
    """``address``: where the browser must go next."""

    address: str


class SignedOut(BaseModel):
    """The result of a sign-out. ``signed_out``: true if a user was signed in in this browser."""

    signed_out: bool


@router.get("/api/whoami")
async def get_whoami(request: Request, caller: Caller, auth: TheAuth) -> Whoami:
    """Return the caller, with the caller's rights."""
    exchange: Exchange = request.scope["portico.exchange"]
    row = auth.keys.get(caller.id)
    names = {LOCAL.id: "this machine", OPERATOR.id: "operator"}
    with_token: Literal["token", "key"] = "token" if exchange.expires_at else "key"
    return Whoami(
        id=caller.id,
        name=row.name if row is not None else names.get(caller.id, caller.id),
        by="nothing" if caller is LOCAL else "page" if exchange.sign_in else with_token,
        role=exchange.role,
        scopes=tuple(sorted(caller.scopes)),
        limits={} if row is None else dict(row.limits),
        issuer="" if row is None else row.issuer,
        subject="" if row is None else row.subject,
        expires_at=exchange.expires_at or None,
    )


@router.post(START)
async def start_sign_in(
    body: SignInRequest, request: Request, response: Response, services: TheServices
) -> StartedSignIn:
    """Start signing in with an issuer. Only the daemon's own page may call this; it then opens the returned address."""
    base = _base(request, services)
    _require_page(request, base)
    address, secret = await services.sign_ins.start(body.issuer, base + CALLBACK)
    _set_cookie(response, base, STARTED, secret, START_LIFE_S)
    response.headers.update(_PRIVATE)
    return StartedSignIn(address=address)


@router.get(CALLBACK, include_in_schema=False)
async def finish_sign_in(request: Request, services: TheServices) -> Response:
    """Handle the redirect from the issuer. Redirect to the web page, which shows any error."""
    base = _base(request, services)
    exchange: Exchange = request.scope["portico.exchange"]
    start_cookie = cookies.cookie(exchange.headers, STARTED, base) or ""
    page = f"{urlsplit(base).path}/"
    response = Response(status_code=303, headers={**_PRIVATE, "Location": page})
    _set_cookie(response, base, STARTED, "", 0)
    try:
        secret = await services.sign_ins.finish(start_cookie, dict(request.query_params), base + CALLBACK)
        _set_cookie(response, base, SIGNED_IN, secret, None)
    except SignInFailed as error:
        response.headers["Location"] = f"{page}?sign-in={error.code}"
    return response


@router.delete(START)
async def sign_out(request: Request, response: Response, services: TheServices) -> SignedOut:
    """Sign out this browser, in the daemon and at the issuer. Only the daemon's own page may call this."""
    base = _base(request, services)
    _require_page(request, base)
    exchange: Exchange = request.scope["portico.exchange"]
    secret = cookies.cookie(exchange.headers, SIGNED_IN, base)
    _set_cookie(response, base, SIGNED_IN, "", 0)
    response.headers.update(_PRIVATE)
    return SignedOut(signed_out=secret is not None and await services.sign_ins.end(secret))


def _base(request: Request, services: ApiServices) -> str:
    exchange: Exchange = request.scope["portico.exchange"]
    return exchange.base_url(services.settings)


def _require_page(request: Request, base: str) -> None:
    """Raise `Forbidden` unless the request comes from the daemon's own page. Other pages must not sign users in or
    out.
    """
    exchange: Exchange = request.scope["portico.exchange"]
    if not cookies.is_of_our_page(exchange.headers, exchange.scope["method"], base):
        raise Forbidden(
            "Only this daemon's own page may call this endpoint. Programs send a key or a token with each "
            "call.",
            code="origin_not_allowed",
        )


def _set_cookie(response: Response, base: str, name: str, value: str, life_s: int | None) -> None:
    # The redirect back from the issuer is a cross-site request. No other cross-site request needs one of the
    # daemon's cookies.
    same_site = "Lax" if name == STARTED else "Strict"
    cookie: Any = cookies.set_cookie(name, value, base, same_site=same_site, life_s=life_s)
    response.headers.append("Set-Cookie", cookie)
