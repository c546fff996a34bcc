"""Real reverse proxies in front of a daemon: as a newcomer writes their configurations, and as docs/proxies.md does."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.daemon import ROOT

PATH: Final = "/portico"
"""The path under which the documentation's second configuration of each proxy serves the daemon."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A reverse proxy. ``ready`` is a word that it prints once it listens.

    ``frame`` is what surrounds a configuration. ``root`` and ``path`` are what a newcomer writes; ``host`` also
    rewrites the Host header, so that the daemon sees a local one. In these texts, ``FOLDER``, ``PORT``, ``DAEMON`` and
    ``BODY`` are replaced.
    """

    command: str
    ready: str
    frame: str
    root: str
    path: str
    host: str
    heading: str
    """The heading of its section in docs/proxies.md."""


REASONS = {
    "nginx": "nginx is not installed",
    "caddy": "caddy is not installed",
    "haproxy": "haproxy is not installed",
    "apache2": "apache2 is not installed",
}
"""Why the tests of a proxy are skipped. `tests.skips` looks for these words."""

_HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen outside
  bind 127.0.0.1:PORT
"""

_APACHE_MODULES = "\n".join(
    f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
    for name in ("mpm_event", "authz_core", "alias", "headers", "proxy", "proxy_http", "socache_shmcb", "ssl")
)

PROXIES = {
    "nginx": Proxy(
        "nginx -p FOLDER -c FOLDER/configuration -e stderr",
        "start worker process ",
        """
        daemon off; pid FOLDER/pid; user root; error_log stderr notice; events {}
        http {
          access_log off;
          client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
          uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
          BODY
        }
        """,
        "server { listen 127.0.0.1:PORT; location / { proxy_pass http://DAEMON; } }",
        "server { listen 127.0.0.1:PORT; location /portico/ { proxy_pass http://DAEMON/; } }",
        """
        server {
          listen 127.0.0.1:PORT; proxy_http_version 1.1; proxy_set_header Host localhost;
          proxy_set_header X-Real-IP $remote_addr; location / { proxy_pass http://DAEMON; }
        }
        """,
        "nginx",
    ),
    "caddy": Proxy(
        "caddy run --adapter caddyfile --config FOLDER/configuration",
        "serving initial configuration",
        """
        {
          admin off
          auto_https disable_redirects
          default_bind 127.0.0.1
          skip_install_trust
          servers {
            protocols h1 h2
          }
        }
        BODY
        """,
        "http://:PORT {\n  reverse_proxy DAEMON\n}",
        "http://:PORT {\n  handle_path /portico/* {\n    reverse_proxy DAEMON\n  }\n}",
        "http://:PORT {\n  reverse_proxy DAEMON {\n    header_up Host {upstream_hostport}\n  }\n}",
        "Caddy",
    ),
    "haproxy": Proxy(
        "haproxy -W -f FOLDER/configuration",
        "Loading success",
        "BODY",
        f"{_HAPROXY}  server daemon DAEMON\n",
        f"{_HAPROXY}  http-request replace-path ^/portico/(.*) /\\1\n  server daemon DAEMON\n",
        f"{_HAPROXY}  option forwardfor\n  http-request set-header Host DAEMON\n  server daemon DAEMON\n",
        "HAProxy",
    ),
    "apache2": Proxy(
        "apache2 -d FOLDER -f FOLDER/configuration -DFOREGROUND",
        "resuming normal operations",
        f"""
        ServerName localhost
        Listen 127.0.0.1:PORT
        PidFile FOLDER/pid
        DefaultRuntimeDir FOLDER
        ErrorLog /dev/stderr
        User www-data
        Group www-data
        {_APACHE_MODULES}
        BODY
        """,
        "ProxyPass / http://DAEMON/\nProxyPassReverse / http://DAEMON/",
        "ProxyPass /portico/ http://DAEMON/\nProxyPassReverse /portico/ http://DAEMON/",
        "ProxyPass / http://DAEMON/\nRequestHeader set X-Forwarded-Proto https",
        "Apache",
    ),
}


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@lru_cache
def recipes(heading: str) -> tuple[str, str]:
    """Return the configurations of a proxy in docs/proxies.md: at the root and under a path."""
    page = (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    at_root, under_path = re.findall(r"^```text\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return at_root, under_path


@contextmanager
def naive(
    name: str,
    folder: Path,
    daemon: str,
    form: Literal["root", "path", "host"] = "root",
    *,
    replace: tuple[str, str] = ("", ""),
) -> Iterator[str]:
    """Run a proxy without TLS as a newcomer configures it, in front of the daemon at ``daemon``; yield its address.
    ``replace``: a part of the configuration, and what replaces it.
    """
    proxy, port = PROXIES[name], free_port()
    body = {"root": proxy.root, "path": proxy.path, "host": proxy.host}[form]
    assert replace[0] in body
    body = body.replace(*replace) if replace[0] else body
    with _running(name, folder, port, daemon, body):
        yield f"http://127.0.0.1:{port}{PATH if form == 'path' else ''}"


@contextmanager
def recipe(
    name: str,
    folder: Path,
    port: int,
    daemon: str,
    certificate: Path,
    *,
    path: bool = False,
    replace: tuple[str, str] = ("", ""),
) -> Iterator[None]:
    """Run a proxy on a port with TLS, with a configuration of docs/proxies.md. ``certificate``: a PEM file with the
    key and the certificate of ``localhost``; ``replace``: a part of the configuration, and what replaces it.
    """
    text = recipes(PROXIES[name].heading)[path].replace("example.org", "localhost")
    assert replace[0] in text
    text = text.replace(*replace) if replace[0] else text
    text = re.sub(r"/etc/ssl/portico[\w.-]*", str(certificate), text)
    text = text.replace("127.0.0.1:8642", "DAEMON")
    text = text.replace("localhost {", "localhost:PORT {").replace("*:443", "*:PORT")
    text = text.replace("listen 443", "listen 127.0.0.1:PORT").replace("bind :443", "bind 127.0.0.1:PORT")
    with _running(name, folder, port, daemon, text):
        yield


@contextmanager
def _running(name: str, folder: Path, port: int, daemon: str, body: str) -> Iterator[None]:
    proxy = PROXIES[name]
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if shutil.which(name, path=path) is None:
        pytest.skip(REASONS[name])
    text = proxy.frame.replace("BODY", body).replace("FOLDER", str(folder)).replace("PORT", str(port))
    (folder / "configuration").write_text(text.replace("DAEMON", daemon.removeprefix("http://")))
    process = subprocess.Popen(
        proxy.command.replace("FOLDER", str(folder)).split(),
        env={"PATH": path, **dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while proxy.ready not in (line := process.stdout.readline()):
            lines.append(line)
            assert line, "".join(lines)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)
