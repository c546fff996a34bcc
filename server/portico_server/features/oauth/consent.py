"""``/authorize``, the page on which a person grants access to an OAuth client, and ``/api/authorization``, its API."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from portico.schemas.keys import Consent, ConsentAnswer
from portico_server.api.auth.grants import narrow_scopes
from portico_server.api.auth.oauth_errors import RedirectedError
from portico_server.api.endpoint import Caller, TheAuth, TheServices, new_router
from portico_server.api.page import front_page
from portico_server.api.services import ApiServices
from portico_server.features.oauth.adapter import require_server
from portico_server.features.oauth.authorization import MAX_QUERY_CHARS, AuthorizationRequest, read_request
from portico_server.features.oauth.metadata import AUTHORIZE

_API = "/api/authorization"

router = new_router(tags=["Keys"])


class ConsentDecision(BaseModel, extra="forbid"):
    """A person's answer to a client. ``query``: the query of the address ``/authorize`` to which the client sent the
    browser.
    """

    query: Annotated[str, Field(max_length=MAX_QUERY_CHARS)]
    approve: bool


async def _read(query: str, request: Request, services: ApiServices) -> AuthorizationRequest:
    base = request.scope["portico.exchange"].base_url(services.settings)
    require_server(services, base)
    return await read_request(query, base, services.oauth_clients)


@router.get(AUTHORIZE, include_in_schema=False)
async def consent_page() -> HTMLResponse:
    """Serve the page on which a person grants access to an OAuth client. The page checks the request once the person
    is signed in: nobody else learns anything, and no browser is redirected.
    """
    page = await front_page()
    page.headers.update({"Cache-Control": "no-store", "X-Frame-Options": "DENY"})
    return page


@router.get(_API)
async def get_consent(request: Request, services: TheServices, caller: Caller) -> Consent:
    """Return what a client asks for. The query is that of the address ``/authorize``."""
    try:
        authorization = await _read(request.url.query, request, services)
    except RedirectedError as error:
        return Consent(error=error.message, location=error.location)
    client = authorization.client
    return Consent(
        name=client.name,
        document=client.id if "://" in client.id else "",
        redirect=urlsplit(authorization.redirect_uri).netloc or urlsplit(authorization.redirect_uri).scheme,
        audience=authorization.audience,
        scopes=tuple(narrow_scopes(caller, authorization.scopes)),
    )


@router.post(_API)
async def answer_consent(
    body: ConsentDecision, request: Request, services: TheServices, auth: TheAuth, caller: Caller
) -> ConsentAnswer:
    """Grant or deny a client's request. Return the address to which the browser must return."""
    try:
        authorization = await _read(body.query, request, services)
    except RedirectedError as error:
        return ConsentAnswer(location=error.location)
    scopes = narrow_scopes(caller, authorization.scopes)
    if not body.approve:
        return ConsentAnswer(location=authorization.answer(error="access_denied"))
    if not scopes:
        return ConsentAnswer(location=authorization.answer(error="invalid_scope"))
    code = await auth.grants.add(
        caller,
        authorization.client,
        scopes,
        authorization.audience,
        authorization.redirect_uri,
        authorization.challenge,
    )
    return ConsentAnswer(location=authorization.answer(code=code))
