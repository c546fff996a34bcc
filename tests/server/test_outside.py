"""Rules for the server's code: outside data enters only through the bounded functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "server" / "portico_server"

SEARCHES = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}

PATTERNS_OF_OUR_OWN = {
    "features/a2a/adapter.py": "the paths of the protocol, which are ours, joined",
    "core/glosses.py": "forms of an entry of the dictionary that we ship",
    "features/agents/entailment.py": "words of ours, joined",
    "features/answers/attributes.py": "words of ours, joined",
    "features/answers/expects.py": "words of ours, joined",
    "features/readers/table_cells.py": "the forms of dates, which are ours, joined",
    "features/answers/tables/items.py": "words of the rules, which are ours, joined",
    "features/answers/tables/lexicon.py": "words of the rules, which are ours, joined",
    "features/answers/dates.py": "names of months, which are ours, joined",
    "features/answers/negations.py": "opposites, which are ours, joined",
    "features/answers/quantities.py": "names of numbers and units, which are ours, joined",
    "features/answers/trust.py": "patterns of the questions that test a model, all in that file",
    "core/ids.py": "the prefixes of ids, which are ours",
    "core/pattern.py": "checks a pattern that the sandbox will search for; it searches for nothing",
    "runs/redaction.py": "the operator's setting redact_pattern, and escaped texts",
    "core/filter.py": "names and values of attributes, escaped, around constants",
    "features/stores/links/rules.py": "a class of characters that are ours, joined",
    "features/chunkers/sections.py": "the marks of a fence, escaped, and their number",
    "features/tools/sources/worker.py": "the name of a Python parameter, in the process of the operator's function",
    "models/engines/fake/script.py": "the script of a fake model, which only the operator writes",
}
"""Files whose patterns are not constants, and why this is safe."""


@cache
def nodes() -> list[tuple[str, ast.Call | ast.Import | ast.ImportFrom]]:
    """Return all calls and imports of the server, with their files."""
    return [
        (path.relative_to(SERVER).as_posix(), node)
        for path in sorted(SERVER.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call | ast.Import | ast.ImportFrom)
    ]


def calls() -> Iterator[tuple[str, ast.Call]]:
    yield from ((file, node) for file, node in nodes() if isinstance(node, ast.Call))


def importing(package: str) -> set[str]:
    """Return the files that import a package."""
    importing_files = set()
    for file, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.split(".")[0] == package for name in names):
            importing_files.add(file)
    return importing_files


def is_constant(node: ast.expr) -> bool:
    """Return whether the expression is a literal, the name of a constant, or composed of them."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.isupper()
        case ast.JoinedStr(values=parts):
            return all(
                is_constant(part.value if isinstance(part, ast.FormattedValue) else part) for part in parts
            )
        case ast.Call(func=ast.Attribute(attr="escape")):
            return True
        case ast.BinOp(left=left, right=right):
            return is_constant(left) and is_constant(right)
    return False


@pytest.mark.slow
def test_outside_patterns_are_never_run_by_the_python_re_module() -> None:
    """Python's `re` backtracks: a pattern of 27 characters can search for hours. Use `core.pattern` or the sandbox."""
    calling_files = {
        file
        for file, call in calls()
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in ("re", "regex")
        and call.func.attr in SEARCHES
        and not is_constant(call.args[0])
    }
    assert calling_files == set(PATTERNS_OF_OUR_OWN)


def test_no_module_imports_re_functions_under_another_name() -> None:
    for file, node in nodes():
        if isinstance(node, ast.ImportFrom):
            assert node.module != "re", f"{file} imports from re; write re.search(…)"
        if isinstance(node, ast.Import):
            assert not [alias for alias in node.names if alias.name == "re" and alias.asname], file


def test_schemas_are_checked_by_one_module() -> None:
    """`core.shape` bounds a check; jsonschema alone does not."""
    assert importing("jsonschema") == {"core/json_schema.py"}


YAML_OF_THE_OPERATOR = {
    "core/untrusted_yaml.py": "the bounded reader itself",
    "config.py": "the configuration file",
    "features/prompts/formats.py": "only writes it",
    "features/package/targets.py": "only writes it",
    "features/apps/entry.py": "an app that the operator starts by itself",
    "models/engines/fake/script.py": "the script of a fake model",
    "models/prices.py": "the operator's prices",
}
"""Files that read YAML without the limits for outside data, and where their YAML comes from."""


def test_only_listed_modules_parse_yaml_with_aliases() -> None:
    """Nine lines of aliases expand to gigabytes. Use `core.outside_yaml`."""
    assert importing("yaml") == set(YAML_OF_THE_OPERATOR)


UNPACKED = {
    "tarfile": {},
    "gzip": {
        "api/openai/token_input.py": "only packs",
        "core/glosses.py": "the dictionary of a package that we ship",
    },
    "bz2": {"archives/tar.py": "the bounded reader itself"},
    "lzma": {"archives/tar.py": "the bounded reader itself"},
}
"""Files that unpack archives, by package, and why they block nobody."""


def test_archives_from_outside_are_read_by_the_bounded_reader() -> None:
    """`tarfile` blocks the daemon for hours on one megabyte. Use `archives.tar`, and `archives.reader` for zip."""
    for package, files in UNPACKED.items():
        assert importing(package) == set(files), package


THREADS_OF_OUR_OWN = {
    "core/pools.py": "the pools themselves",
    "db/database.py": "the readers of our database, a pool of its own",
    "db/side.py": "run_sync is SQLAlchemy's, in a command's own process",
    "db/postgres.py": "run_sync is SQLAlchemy's, in the loop of the driver's own thread",
    "archives/stream.py": "the thread of who writes an archive",
    "features/backup/write.py": "the one thread of a backup",
    "launchers/ray_driver.py": "a process of its own",
    "models/engines/static/worker.py": "a process of its own",
    "models/gguf_conversion/converter/quantise.py": "a process of its own",
}
"""Files that use threads without `core.threads`, and why this delays nobody else."""


def test_blocking_work_never_uses_the_default_thread_pool() -> None:
    """Slow work in the event loop's default pool delays everyone who needs the pool. Use `core.threads`."""
    names = {"to_thread", "run_in_executor", "run_sync", "run_in_threadpool", "ThreadPoolExecutor"}
    calling_files = {
        file
        for file, call in calls()
        if (call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")) in names
    }
    assert calling_files == set(THREADS_OF_OUR_OWN)


def test_route_bodies_are_parsed_by_the_own_strict_router() -> None:
    """FastAPI's own parser accepts NaN, numbers of any length and nesting of any depth. Use `api.router`."""
    calling_files = {file for file, call in calls() if getattr(call.func, "id", "") == "APIRouter"}
    assert calling_files == {"api/endpoint.py", "features/anthropic/models.py"}


PROXIES_OF_THE_ENVIRONMENT = {
    "http/fetch/client.py": "never: a proxy would resolve the name again, where the daemon cannot look",
    "features/mcp_servers/connection.py": "httpx, which reads no netrc by itself; never for this machine",
}
"""Files that set whether a client uses the proxies of the environment, and why no password of a netrc is sent."""


def test_no_password_of_a_netrc_goes_to_servers_of_others() -> None:
    """An aiohttp client that trusts the environment sends them, to every host. Use `http_answer.open_session`."""
    calling_files = {file for file, call in calls() if any(word.arg == "trust_env" for word in call.keywords)}
    assert calling_files == set(PROXIES_OF_THE_ENVIRONMENT)


SESSIONS_OF_OUR_OWN = {
    "http/client.py": "the sessions themselves",
    "launchers/remote.py": "processes that the daemon has started",
    "share.py": "the daemon on this machine",
    "http/fetch/client.py": "the client that reaches public addresses alone",
}
"""Files that create aiohttp sessions themselves, and the servers that these reach."""


def test_remote_servers_are_reached_only_through_the_limited_http_session() -> None:
    """Such a session limits the size of responses and uses proxies without a netrc. Use `http_answer.open_session`."""
    calling_files = {
        file
        for file, call in calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr == "ClientSession"
    }
    assert calling_files == set(SESSIONS_OF_OUR_OWN)


def test_runs_started_by_keys_always_pass_the_quota_check() -> None:
    """`Runner.spawn` counts nothing, and the first model of a run is assumed to be part of a counted request. Use
    `begin`, or `Scheduler.begin`.
    """
    calling_files = {
        file for file, call in calls() if isinstance(call.func, ast.Attribute) and call.func.attr == "spawn"
    }
    assert calling_files == {"runs/runner.py", "runs/scheduler.py"}
