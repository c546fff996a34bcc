"""The provider of the package oidc-provider-mock, extended with features of larger providers, as a program.

It checks PKCE (RFC 7636), accepts each refresh token once and returns a new ID token for it, revokes tokens (RFC
7009), and lets devices sign in (RFC 8628). ``PUT /test`` changes its behaviour, ``GET /test`` reports what it has
seen.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import flask
from authlib.jose import jwt
from oidc_provider_mock import __main__ as program
from oidc_provider_mock import _app, _storage

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
PLACE = "oidc-provider-mock"
CONFIDENTIAL, SECRET = os.environ["OIDC_CLIENT"], os.environ["OIDC_SECRET"]
"""A client that has a secret."""

_app.AuthorizationCodeGrant.TOKEN_ENDPOINT_AUTH_METHODS = [
    "client_secret_basic",
    "client_secret_post",
    "none",
]


def extended(**options: Any) -> flask.Flask:
    """Return the extended provider."""
    app = _app.app(**options)
    behaviour: dict[str, Any] = {"id_tokens": True, "devices": True, "down": False}
    answering = threading.Event()
    answering.set()
    challenges: dict[str, str] = {}
    devices: dict[str, dict[str, Any]] = {}
    request_log: dict[str, Any] = {"revoked": [], "grants": [], "redirects": []}
    document, authorize, token = (
        app.view_functions[f"{PLACE}.{name}"] for name in ("openid_config", "authorize", "issue_token")
    )

    def with_endpoints() -> Any:
        record = document().json
        record["revocation_endpoint"] = f"{record['issuer']}/oauth2/revoke"
        record["authorization_response_iss_parameter_supported"] = True
        if behaviour["devices"]:
            record["device_authorization_endpoint"] = f"{record['issuer']}/oauth2/device"
        return flask.jsonify(record)

    def authorized() -> Any:
        answer = flask.make_response(authorize())
        if answer.status_code == 302:
            query_arguments = flask.request.args
            parts = urlsplit(answer.headers["location"])
            payload = {name: values[0] for name, values in parse_qs(parts.query).items()}
            challenges[payload.get("code", "")] = query_arguments.get("code_challenge", "")
            request_log["redirects"].append(query_arguments["redirect_uri"])
            payload |= {"state": query_arguments.get("state", ""), "iss": flask.request.host_url.rstrip("/")}
            answer.headers["location"] = parts._replace(query=urlencode(payload)).geturl()
        return answer

    def issued() -> Any:
        form = flask.request.form
        request_log["grants"].append(form.get("grant_type"))
        answering.wait(60)
        if behaviour["down"]:
            return "down", 503
        if form.get("grant_type") == "authorization_code":
            challenge = challenges.pop(form.get("code", ""), None)
            verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if challenge is None or (
                challenge and base64.urlsafe_b64encode(verifier).decode().rstrip("=") != challenge
            ):
                return _refused("invalid_grant")
            return token()
        if form.get("grant_type") == "refresh_token":
            record = _storage.storage.get_refresh_token(form.get("refresh_token", ""))
            if record is None:
                return _refused("invalid_grant")
            _storage.storage.remove_refresh_token(record.token)
            return flask.jsonify(given_to(record.user_id, record.client_id, id_token=behaviour["id_tokens"]))
        if form.get("grant_type") == DEVICE:
            device = devices.get(form.get("device_code", ""))
            if device is None or device["sub"] is None:
                return _refused("expired_token" if device is None else "authorization_pending")
            del devices[form["device_code"]]
            if not device["sub"]:
                return _refused("access_denied")
            return flask.jsonify(given_to(device["sub"], device["client"]))
        return token()

    def given_to(sub: str, client: str, *, id_token: bool = True) -> dict[str, Any]:
        user = _storage.storage.get_user(sub)
        assert user is not None
        life_s = (
            behaviour.get("life_s")
            or flask.current_app.config["OAUTH2_TOKEN_EXPIRES_IN"]["authorization_code"]
        )
        refresh = _storage.RefreshToken(
            token=secrets.token_urlsafe(16),
            access_token=secrets.token_urlsafe(16),
            user_id=sub,
            client_id=client,
            scope="openid",
            expires_at=datetime.now(UTC) + timedelta(hours=1),
        )
        _storage.storage.store_refresh_token(refresh)
        current_time = int(time.time())
        claims = {
            "iss": flask.request.host_url.rstrip("/"),
            "sub": sub,
            "aud": [client],
            "iat": current_time,
            "exp": current_time + life_s,
            "jti": secrets.token_hex(8),
            **user.claims,
        }
        key = _storage.storage.jwk.as_dict(is_private=True)
        signed = jwt.encode({"alg": "RS256", "kid": key["kid"]}, claims, key).decode()
        return {
            "access_token": refresh.access_token,
            "token_type": "Bearer",
            "expires_in": life_s,
            "refresh_token": refresh.token,
            **({"id_token": signed} if id_token else {}),
        }

    app.view_functions |= {
        f"{PLACE}.openid_config": with_endpoints,
        f"{PLACE}.authorize": authorized,
        f"{PLACE}.issue_token": issued,
    }

    def revoke() -> Any:
        payload = flask.request.form["token"]
        request_log["revoked"].append(payload)
        _storage.storage.remove_refresh_token(payload)
        return ""

    def begin_device() -> Any:
        code, user = secrets.token_urlsafe(16), secrets.token_hex(4).upper()
        devices[code] = {"client": flask.request.form["client_id"], "user_code": user, "sub": None}
        place = f"{flask.request.host_url}device"
        return flask.jsonify(
            {
                "device_code": code,
                "user_code": user,
                "verification_uri": place,
                "verification_uri_complete": f"{place}?user_code={user}",
                "expires_in": 600,
                "interval": 0.05,
            }
        )

    def answer_device() -> Any:
        for device in devices.values():
            if device["user_code"] == flask.request.form["user_code"]:
                device["sub"] = flask.request.form["sub"]  # empty: denied
        return ""

    def behave() -> Any:
        payload = flask.request.get_json()
        behaviour.update(payload)
        if behaviour.pop("forget_devices", False):
            devices.clear()
        (answering.clear if behaviour.get("hangs") else answering.set)()
        return ""

    def tell() -> Any:
        return flask.jsonify({**request_log, "devices": [device["user_code"] for device in devices.values()]})

    def confidential() -> None:
        if _storage.storage.get_client(CONFIDENTIAL) is None:
            any_redirect = _storage.ClientAllowAny()
            _storage.storage.store_client(
                _storage.Client(
                    id=CONFIDENTIAL,
                    secret=SECRET,
                    redirect_uris=any_redirect,
                    allowed_scopes=_storage.Client.SCOPES_SUPPORTED,
                    token_endpoint_auth_method="client_secret_basic",
                )
            )

    app.add_url_rule("/oauth2/revoke", view_func=revoke, methods=["POST"])
    app.add_url_rule("/oauth2/device", view_func=begin_device, methods=["POST"])
    app.add_url_rule("/device", view_func=answer_device, methods=["POST"])
    app.add_url_rule("/test", view_func=behave, methods=["PUT"])
    app.add_url_rule("/test", view_func=tell, methods=["GET"])
    app.before_request(confidential)
    return app


def _refused(error: str) -> Any:
    return flask.jsonify({"error": error}), 400


if __name__ == "__main__":
    program.app = extended  # type: ignore[assignment]
    program.run()
