"""A daemon without a key refuses what real reverse proxies on its machine forward, as a newcomer configures them and as
their recipes say.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.raw_http import Form, ask

OUTSIDER = Form(host="portico.example.com")

CALLS = (
    *(
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/messages"),
        ("GET", "/api/tags"),
    ),
    *(("GET", "/api/keys"), ("POST", "/api/keys"), ("POST", "/api/tools/shell/call"), ("GET", "/metrics")),
    *(("POST", "/mcp"), ("POST", "/a2a/docs"), ("GET", "/"), ("GET", "/docs"), ("WEBSOCKET", "/v1/realtime")),
)


@dataclass(frozen=True)
class Proxy:
    """A reverse proxy: its command, its configuration, and a word that it prints once it listens.

    ``FOLDER``, ``PORT``, ``DAEMON`` and ``MORE`` (a naive configuration has no more than it needs) are replaced.
    """

    command: str
    configuration: str
    ready: str
    recipe: str


REASONS = {
    "nginx": "nginx is not installed",
    "caddy": "caddy is not installed",
    "haproxy": "haproxy is not installed",
    "apache2": "apache2 is not installed",
}
"""Why the tests of a proxy are skipped. `tests.skips` looks for these words."""

PROXIES = {
    "nginx": Proxy(
        "nginx -p FOLDER -c FOLDER/configuration -e stderr",
        """
        daemon off; pid FOLDER/pid; user root; error_log stderr notice; events {}
        http {
          access_log off;
          client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
          uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
          server { listen 127.0.0.1:PORT; location / { proxy_pass http://DAEMON; MORE } }
        }
        """,
        "start worker process ",
        """
        proxy_http_version 1.1; proxy_buffering off;
        proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
        """,
    ),
    "caddy": Proxy(
        "caddy run --adapter caddyfile --config FOLDER/configuration",
        """
        {
          admin off
          auto_https off
        }
        http://:PORT {
          bind 127.0.0.1
          reverse_proxy DAEMON {
            MORE
          }
        }
        """,
        "serving initial configuration",
        "header_up Host {upstream_hostport}\nheader_up X-Real-IP {remote_host}\nflush_interval -1",
    ),
    "haproxy": Proxy(
        "haproxy -W -f FOLDER/configuration",
        """
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend outside
  bind 127.0.0.1:PORT
  default_backend daemon
backend daemon
  MORE
  server daemon DAEMON
""",
        "Loading success",
        "option forwardfor\n  http-request set-header X-Forwarded-Proto https\n  http-request set-header Host DAEMON",
    ),
    "apache2": Proxy(
        "apache2 -d FOLDER -f FOLDER/configuration -DFOREGROUND",
        """
        ServerName localhost
        Listen 127.0.0.1:PORT
        PidFile FOLDER/pid
        DefaultRuntimeDir FOLDER
        ErrorLog /dev/stderr
        User www-data
        Group www-data
        LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
        LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
        LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
        LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
        LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
        ProxyPass / http://DAEMON/
        ProxyPassReverse / http://DAEMON/
        MORE
        """,
        "resuming normal operations",
        "ProxyPreserveHost On\nRequestHeader set X-Forwarded-Proto https",
    ),
}


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemons.running(tmp_path_factory.mktemp("home"), env={"PORTICO_OFFLINE": "1"}) as daemon:
        yield daemon


@contextmanager
def running(name: str, folder: Path, daemon: Daemon, *, with_recipe: bool) -> Iterator[str]:
    """Run a proxy in front of the daemon, and yield its address."""
    proxy = PROXIES[name]
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if shutil.which(name, path=path) is None:
        pytest.skip(REASONS[name])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    text = proxy.configuration.replace("MORE", proxy.recipe if with_recipe else "")
    text = text.replace("FOLDER", str(folder)).replace("PORT", port)
    (folder / "configuration").write_text(text.replace("DAEMON", daemon.url.removeprefix("http://")))
    command = proxy.command.replace("FOLDER", str(folder)).split()
    environment = {
        "PATH": path,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while proxy.ready not in (line := process.stdout.readline()):
            lines.append(line)
            assert line, "".join(lines)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("with_recipe", [False, True], ids=["naive", "recipe"])
@pytest.mark.parametrize("name", PROXIES)
def test_an_outsider_gets_nothing_through_a_proxy(
    keyless: Daemon, tmp_path: Path, name: str, with_recipe: bool
) -> None:
    with running(name, tmp_path, keyless, with_recipe=with_recipe) as url:
        assert ask(keyless.url, "GET", "/api/keys")[0] == 200
        for method, path in CALLS:
            status, body = ask(url, method, path, OUTSIDER)
            assert (status, "trust_local_proxy" in body) == (401, True), (method, path, status, body)
