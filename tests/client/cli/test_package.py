"""`portico package`: a package contains all that an app needs and no secrets, and the app answers the same
elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import daemon as daemons
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client, Conflict, Forbidden, NotFound

QUESTION = "Which port does the Lighthouse daemon listen on?"

SECRETS = {"api_key": "sk-of-the-house-1234", "env": "token-of-the-tool-5678"}

ASKER = {
    "portico_flow": 1,
    "step": {
        "op": "pipeline",
        "steps": [
            {"name": "found", "op": "retrieve", "store": "handbook", "top_k": 1},
            {"op": "llm", "model": "echo", "system": "${{HOME}} stays as it stands."},
        ],
    },
}

CALLER = {
    "portico_flow": 1,
    "step": {
        "op": "pipeline",
        "steps": [
            {"op": "tool", "tool": "greet", "arguments": {"name": "{value}"}},
            {"op": "subflow", "app": "inner"},
        ],
    },
}

INNER = {"portico_flow": 1, "step": {"op": "llm", "model": "house", "system": "Write."}}


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Client]:
    """A client of a daemon with apps that use a store, a tool with a secret and a model with a key."""
    with Client(daemon.url) as opened_client:
        opened_client.deployments.add("house", "http://127.0.0.1:9/v1#m", api_key=SECRETS["api_key"])
        opened_client.tools.add("greet", command=["echo", "{name}"], env={"GREETING_TOKEN": SECRETS["env"]})
        opened_client.apps.deploy("asker", ASKER)
        opened_client.apps.deploy("inner", INNER)
        opened_client.apps.deploy("caller", CALLER)
        yield opened_client


def passages(client: Client) -> list[Any]:
    answer = client.ask(QUESTION, "handbook")
    reply = answer.read()
    text = re.sub("file-[0-9a-f]{32}", "", client.apps.run("asker", QUESTION))  # ids differ between daemons
    return [text, reply.text, [(passage.filename, passage.text, passage.place) for passage in reply.passages]]


def texts(folder: Path) -> dict[str, str]:
    """Return the package files that are neither stores nor programs."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".zip", ".whl")
    }


@pytest.mark.slow
def test_an_unpacked_package_answers_with_the_same_citations_in_an_empty_home(
    command: Command, client: Client, tmp_path: Path
) -> None:
    folder, description = tmp_path / "asker", "What ${WE} know, and ${WHO:-others} too"
    client.stores.change("handbook", description=description)
    done = command("package", "asker", "--include", "handbook", "-o", str(folder), "--json")
    assert done.code == 0, done.err
    assert [store["name"] for store in done.json["stores"]] == ["handbook"]
    local_answers = [*passages(client), description]
    assert all("port 7419" in str(answer_part) for answer_part in local_answers[:-1])
    command_line = ("--file", str(folder / "app" / "portico.yaml"))
    ids = []
    for _start in range(2):  # the second start finds what the first start created
        with (
            daemons.running(tmp_path / "home", *command_line) as daemon,
            Client(daemon.url) as packaged_client,
        ):
            store = packaged_client.stores.get("handbook")
            assert [*passages(packaged_client), store.description] == local_answers
            ids.append(store.id)
            assert packaged_client.apps.versions("asker")[0].spec["step"] == ASKER["step"]
    assert ids[0] == ids[1]


@pytest.mark.slow
def test_a_package_is_reproducible_and_has_a_manifest_of_its_files(
    command: Command, client: Client, tmp_path: Path
) -> None:
    archives = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for out in archives:
        done = command("package", "asker", "--image", "--compose", "--kubernetes", "--slurm", "-o", str(out))
        assert done.code == 0, done.err
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        manifest = json.loads(archive.read("MANIFEST.json"))
        names = set(archive.namelist()) - {"MANIFEST.json"}
        assert {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names} == manifest["sha256"]
        [wheel] = [name for name in names if name.startswith("wheels/")]
        (tmp_path / "portico.whl").write_bytes(archive.read(wheel))
        assert archive.read("requirements.lock") == (daemons.ROOT / "requirements" / "run.lock").read_bytes()
    assert manifest["app"] == "asker"
    assert manifest["version"] == client.apps.get("asker").version
    assert "Dockerfile" in names and "kubernetes/statefulset.yaml" in names
    with zipfile.ZipFile(tmp_path / "portico.whl") as wheel_archive:
        [record] = [name for name in wheel_archive.namelist() if name.endswith("/RECORD")]
        for line in wheel_archive.read(record).decode().splitlines()[:-1]:
            name, digest, _size = line.rsplit(",", 2)
            sha256_digest = hashlib.sha256(wheel_archive.read(name)).digest()
            assert digest == "sha256=" + base64.urlsafe_b64encode(sha256_digest).decode().rstrip("=")
        inside = set(wheel_archive.namelist())
    assert {
        "portico/__init__.py",
        "portico_server/__main__.py",
        "portico_server/features/package/run.lock",
    } <= inside
    assert not any("__pycache__" in name for name in inside)
    assert "already exists" in command("package", "asker", "-o", str(archives[0])).err


def test_no_secret_is_in_a_package_and_each_has_a_variable(
    command: Command, client: Client, tmp_path: Path
) -> None:
    done = command("package", "caller", "-o", str(tmp_path / "out"), "--compose", "--json")
    assert done.code == 0, done.err
    package_texts = texts(tmp_path / "out")
    for name, text in package_texts.items():
        for secret in SECRETS.values():
            assert secret not in text, name
    assert {"MODEL_HOUSE_API_KEY", "TOOL_GREET_GREETING_TOKEN"} <= done.json["variables"].keys()
    document = yaml.safe_load(package_texts["app/portico.yaml"])
    assert document["models"][0]["api_key"] == "${MODEL_HOUSE_API_KEY}"
    assert document["tools"][0]["env"] == {"GREETING_TOKEN": "${TOOL_GREET_GREETING_TOKEN}"}
    assert [entry["name"] for entry in document["apps"]] == ["caller", "inner"]
    example = package_texts[".env.example"]
    assert "\nMODEL_HOUSE_API_KEY=\n" in example and "PORTICO_API_KEY=\n" in example
    assert "starts the program 'echo'" in done.json["notes"][0]
    leaky = {**INNER, "step": {"op": "llm", "model": "house", "system": f"Say {SECRETS['api_key']}"}}
    client.apps.deploy("leaky", leaky)
    with pytest.raises(Conflict, match="contains the value of the secret MODEL_HOUSE_API_KEY"):
        client.apps.plan_package("leaky")


def test_a_dry_run_writes_nothing(command: Command, client: Client, tmp_path: Path) -> None:
    done = command("package", "asker", "--slurm", "-o", str(tmp_path / "out"), "--dry-run")
    assert done.code == 0, done.err
    assert "would bring" in done.out and "Nothing was written." in done.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("askar",), "'asker'"),
        (("asker", "--version", "9"), "has no version 9; its newest version is"),
        (("handbook", "--version", "1"), "the chat app of a store, which has no versions"),
        (("asker", "--include", "store/handbok"), "handbook"),
        (("asker", "--include", "prompt/nothing"), "The prompt 'nothing' does not exist"),
        (("asker", "--slurm", "--partition", "gpu long"), "'partition' is 'gpu long'"),
        (("asker", "--kubernetes", "--replicas", "3", "--max-replicas", "2"), "less than the 3"),
        (("asker", "--kubernetes", "--host", "no_host"), "'host' is 'no_host'"),
    ],
)
def test_invalid_package_arguments_are_refused_with_a_reason(
    command: Command, client: Client, arguments: tuple[str, ...], words: str
) -> None:
    done = command("package", *arguments, "--dry-run")
    assert done.code == 1
    assert words in done.err


def test_an_app_with_unpackageable_dependencies_is_refused(client: Client, tmp_path: Path) -> None:
    script = tmp_path / "replies.yaml"
    script.write_text("replies: [{content: Scripted.}]\n", encoding="utf-8")
    client.deployments.add("scripted", f"fake://{script}")
    step: dict[str, Any] = {"op": "llm", "model": "scripted", "system": "Write."}
    client.apps.deploy("local", {"portico_flow": 1, "step": step})
    with pytest.raises(Conflict, match="is a file that exists only on this machine"):
        client.apps.plan_package("local")
    plan = client.apps.plan_package("local", models="include")
    assert "app/models/scripted/replies.yaml" in plan.files
    function = {"portico_flow": 1, "step": {"op": "client", "function": "mine"}}
    client.apps.deploy("needs", function, serve_later=True)
    with pytest.raises(Conflict, match="calls the function 'mine', which a client executes"):
        client.apps.plan_package("needs")
    by_id = {"portico_flow": 1, "step": {"op": "retrieve", "store": client.stores.get("handbook").id}}
    client.apps.deploy("by-id", by_id)
    with pytest.raises(Conflict, match="uses the id of the store 'handbook'"):
        client.apps.plan_package("by-id")
    loose = client.stores.add("loose")
    client.apps.deploy("over-loose", {"portico_flow": 1, "step": {"op": "retrieve", "store": loose.name}})
    with pytest.raises(Conflict, match="follows neither a folder nor an address"):
        client.apps.plan_package("over-loose", stores="reference")


@pytest.mark.slow
def test_a_model_of_this_machine_travels_with_its_app(client: Client, tmp_path: Path) -> None:
    script = tmp_path / "answers.yaml"
    script.write_text("replies: [{content: From afar.}]\n", encoding="utf-8")
    client.deployments.add("carried", f"fake://{script}")
    client.apps.deploy("carrier", {"portico_flow": 1, "step": {"op": "llm", "model": "carried"}})
    client.apps.package("carrier", tmp_path / "carrier.zip", models="include")
    with zipfile.ZipFile(tmp_path / "carrier.zip") as archive:
        archive.extractall(tmp_path / "there")
    script.unlink()
    file = tmp_path / "there" / "app" / "portico.yaml"
    with (
        daemons.running(tmp_path / "home", "--file", str(file)) as daemon,
        Client(daemon.url) as packaged_client,
    ):
        assert packaged_client.apps.run("carrier", "Where from?") == "From afar."


def test_a_store_packaged_by_reference_is_configured_by_a_folder_variable(
    client: Client, tmp_path: Path
) -> None:
    client.apps.package("asker", tmp_path / "asker.zip", stores="reference")
    with zipfile.ZipFile(tmp_path / "asker.zip") as archive:
        document = yaml.safe_load(archive.read("app/portico.yaml"))
        assert "STORE_HANDBOOK_FOLDER=" in archive.read(".env.example").decode()
        assert not [name for name in archive.namelist() if name.startswith("app/stores/")]
    assert document["stores"][0]["folder"] == "${STORE_HANDBOOK_FOLDER}"


def add_skill(client: Client, folder: Path, text: str) -> None:
    (folder / "references").mkdir(parents=True, exist_ok=True)
    skill = f"---\nname: {folder.name}\ndescription: How to greet.\n---\n{text}\n"
    (folder / "SKILL.md").write_text(skill, encoding="utf-8")
    (folder / "references" / "north.md").write_text("Moin, twice.\n", encoding="utf-8")
    client.skills.add(folder)


def reading(skill: str, path: str = "SKILL.md") -> dict[str, Any]:
    """Return a flow that reads a file of a skill."""
    step = {"op": "tool", "tool": "read_skill", "arguments": {"skill": skill, "path": path}}
    return {"portico_flow": 1, "step": step}


@pytest.mark.slow
def test_the_skills_of_an_app_travel_with_it_in_the_version_that_answers(
    client: Client, tmp_path: Path
) -> None:
    add_skill(client, tmp_path / "greeting", "Say hello.")
    add_skill(client, tmp_path / "greeting", "Say moin.")
    look = {"name": "read_skill", "arguments": {"skill": "greeting", "path": "references/north.md"}}
    script = [{"result": "(Moin.*)", "content": "It says: \\1"}, {"tool_calls": [look]}]
    client.deployments.add("greeter", "fake://", parameters={"script": script})
    client.apps.deploy(
        "skilled", {"portico_agent": 1, "model": "greeter", "skills": ["greeting"]}, kind="agent"
    )
    planned = client.apps.plan_package("skilled")
    assert [(item["name"], item["version"], item["files"]) for item in planned.skills] == [("greeting", 2, 2)]
    assert "app/skills/greeting.zip" in planned.files
    archives = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for out in archives:
        client.apps.package("skilled", out)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        packed = archive.read("app/skills/greeting.zip")
        assert hashlib.sha256(packed).hexdigest() == planned.skills[0]["sha256"]
        archive.extractall(tmp_path / "there")
    file = tmp_path / "there" / "app" / "portico.yaml"
    with (
        daemons.running(tmp_path / "home", "--file", str(file)) as daemon,
        Client(daemon.url) as packaged_client,
    ):
        [packaged_skill] = packaged_client.skills.list()
        assert (packaged_skill.name, packaged_skill.shared) == ("greeting", True)
        assert packaged_client.skills.content("greeting") == packed
        answer = packaged_client.apps.run("skilled", "How do you greet?")
        assert answer["content"].strip() == "It says: Moin, twice."


def test_a_skill_that_a_step_gives_to_a_shell_travels_too(client: Client, tmp_path: Path) -> None:
    add_skill(client, tmp_path / "sh-skill", "Run it.")
    for name, skill in (
        ("by-name", "sh-skill"),
        ("by-latest", {"skill": "sh-skill", "version": "latest"}),
        ("by-number", {"skill": "sh-skill", "version": "1"}),
        ("by-id", client.skills.get("sh-skill").id),
    ):
        arguments = {"commands": ["ls /skills"], "skills": [skill]}
        step = {"op": "tool", "tool": "shell", "arguments": arguments}
        client.apps.deploy(f"shell-{name}", {"portico_flow": 1, "step": step})
    for name in ("by-name", "by-latest"):
        assert [item["name"] for item in client.apps.plan_package(f"shell-{name}").skills] == ["sh-skill"]
    with pytest.raises(Conflict, match="uses version 1 of the skill 'sh-skill' by number"):
        client.apps.plan_package("shell-by-number")
    with pytest.raises(Conflict, match="uses the id of the skill 'sh-skill'"):
        client.apps.plan_package("shell-by-id")


@pytest.mark.slow
def test_a_package_whose_archive_of_a_skill_was_changed_is_refused(client: Client, tmp_path: Path) -> None:
    add_skill(client, tmp_path / "changed", "Say hello.")
    client.apps.deploy("changer", reading("changed"))
    client.apps.package("changer", tmp_path / "changer.zip")
    with zipfile.ZipFile(tmp_path / "changer.zip") as archive:
        archive.extractall(tmp_path / "there")
    link = zipfile.ZipInfo("changed/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "there" / "app" / "skills" / "changed.zip", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    done = subprocess.run(
        [sys.executable, "-m", "portico_server", "serve", "--file", "there/app/portico.yaml"],
        cwd=tmp_path,
        env=daemons.environment(PORTICO_PORT="0", PORTICO_HOME=str(tmp_path / "home")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert json.loads(done.stdout)["error"]["code"] == "invalid_archive"


def test_only_skills_that_the_packer_may_read_travel(client: Client, daemon: Daemon, tmp_path: Path) -> None:
    scopes = ["chat", "models:read", "apps:*:deploy", "tools:*:call"]
    keys = [client.keys.add(f"skilled packager {n}", scopes) for n in range(2)]
    with (
        Client(daemon.url, key=keys[0].key) as owner_client,
        Client(daemon.url, key=keys[1].key) as other_client,
    ):
        add_skill(owner_client, tmp_path / "mine-alone", "Of the first key.")
        owner_client.apps.deploy("of-mine", reading("mine-alone"))
        [packed] = owner_client.apps.plan_package("of-mine").skills
        assert packed["name"] == "mine-alone"
        skill = owner_client.skills.get("mine-alone").id
        other_client.apps.deploy("theirs", {"portico_flow": 1, "step": {"op": "llm", "model": "echo"}})
        for skill_reference in ("mine-alone", skill):
            other_client.apps.deploy("of-others", reading(skill_reference))
            with pytest.raises(NotFound, match=f"The skill '{skill_reference}' does not exist"):
                other_client.apps.plan_package("of-others")
            with pytest.raises(NotFound, match=f"The skill '{skill_reference}' does not exist"):
                other_client.apps.plan_package("theirs", include=[f"skill/{skill_reference}"])


def test_a_secret_in_a_shared_skill_is_found(client: Client, tmp_path: Path) -> None:
    add_skill(client, tmp_path / "leaking", f"The key is {SECRETS['api_key']}.")
    flow = {"op": "pipeline", "steps": [{"op": "llm", "model": "house"}, reading("leaking")["step"]]}
    client.apps.deploy("leaking-app", {"portico_flow": 1, "step": flow})
    with pytest.raises(Conflict, match=r"'SKILL\.md' of the skill 'leaking' contains the value"):
        client.apps.plan_package("leaking-app")


def test_who_may_deploy_an_app_may_package_it(client: Client, daemon: Daemon) -> None:
    scopes = ["chat", "models:read", "apps:*:deploy", "tools:calculator:call"]
    keys = [client.keys.add(f"packager {n}", scopes) for n in range(2)]
    with (
        Client(daemon.url, key=keys[0].key) as owner_client,
        Client(daemon.url, key=keys[1].key) as other_client,
    ):
        app = owner_client.apps.deploy("mine", {"portico_flow": 1, "step": {"op": "llm", "model": "echo"}})
        assert owner_client.apps.plan_package("mine").app == "mine"
        for name in ("mine", app.id):
            with pytest.raises(NotFound):
                other_client.apps.plan_package(name)
        with pytest.raises(Forbidden):
            owner_client.apps.plan_package("asker")
        with pytest.raises(Conflict, match="private to a key"):
            client.apps.plan_package(app.id)
        owner_client.apps.deploy("welcome", {"portico_flow": 1, "step": {"op": "tool", "tool": "calculator"}})
        assert owner_client.apps.plan_package("welcome").tools == ("calculator",)


@pytest.mark.slow
def test_the_script_for_slurm_starts_the_daemon_and_writes_its_address(
    command: Command, client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    flags = ("--partition", "gpu", "--account", "lab", "--time", "8:00:00", "--gres", "gpu:a100:1")
    done = command("package", "asker", "--slurm", *flags, "-o", str(folder))
    assert done.code == 0, done.err
    script = folder / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    lines = script.read_text(encoding="utf-8").splitlines()
    for directive in ("partition=gpu", "account=lab", "time=8:00:00", "gres=gpu:a100:1"):
        assert f"#SBATCH --{directive}" in lines
    (folder / ".env").write_text("PORTICO_API_KEY=a-key-for-the-job-0123\n", encoding="utf-8")
    variables = daemons.environment(SLURM_SUBMIT_DIR=str(folder), PORTICO_PYTHON=sys.executable)
    with subprocess.Popen(["bash", str(script)], stdout=subprocess.PIPE, text=True, env=variables) as job:
        try:
            assert job.stdout is not None
            ready = json.loads(job.stdout.readline())
            assert ready["ready"] is True
            port = ready["url"].rpartition(":")[2]
            assert (folder / "address").read_text(encoding="utf-8").strip().endswith(f":{port}")
            with Client(f"http://127.0.0.1:{port}", key="a-key-for-the-job-0123") as job_client:
                assert (
                    job_client.apps.get("asker").version,
                    job_client.stores.get("handbook").file_counts.total,
                ) == (
                    1,
                    3,
                )
        finally:
            job.terminate()
            job.wait(60)
    assert not (folder / "address").exists()


def test_without_a_key_the_script_for_slurm_says_what_is_missing(
    command: Command, client: Client, tmp_path: Path
) -> None:
    assert command("package", "inner", "--slurm", "-o", str(tmp_path / "job")).code == 0
    variables = {**daemons.environment(SLURM_SUBMIT_DIR=str(tmp_path / "job")), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", str(tmp_path / "job" / "slurm.sh")],
        capture_output=True,
        text=True,
        env=variables,
        check=False,
    )
    assert done.returncode != 0
    assert "PORTICO_API_KEY: write it into .env" in done.stderr


def kubernetes(command: Command, folder: Path, *flags: str) -> dict[str, Any]:
    """Return the manifests of a package by kind."""
    done = command("package", "asker", "--kubernetes", *flags, "-o", str(folder))
    assert done.code == 0, done.err
    documents = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (folder / "kubernetes").glob("*.yaml")
    ]
    return {document["kind"]: document for document in documents}


def test_manifests_agree_with_each_other_and_run_without_rights(
    command: Command, client: Client, tmp_path: Path
) -> None:
    flags = ("--replicas", "2", "--max-replicas", "4", "--gpus", "1", "--host", "ask.example.org")
    manifests = kubernetes(command, tmp_path / "many", *flags, "--tag", "registry.example.org/asker:7")
    workload = manifests["StatefulSet"]["spec"]
    pod = workload["template"]["spec"]
    [container] = pod["containers"]
    assert (manifests["StatefulSet"]["apiVersion"], workload["replicas"]) == ("apps/v1", 2)
    assert workload["selector"]["matchLabels"] == workload["template"]["metadata"]["labels"]
    assert manifests["Service"]["spec"]["selector"] == workload["selector"]["matchLabels"]
    assert manifests["NetworkPolicy"]["spec"]["podSelector"] == workload["selector"]
    assert workload["serviceName"] == manifests["Service"]["metadata"]["name"] == "asker"
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 8642)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"livenessProbe": "/health", "readinessProbe": "/ready"}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    claims = {claim["metadata"]["name"] for claim in workload["volumeClaimTemplates"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == claims | {volume["name"] for volume in pod["volumes"]}
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["PORTICO_DATABASE"]["valueFrom"]["secretKeyRef"]["name"] == "asker-env"
    assert manifests["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert manifests["Ingress"]["spec"]["rules"][0]["host"] == "ask.example.org"
    annotations = manifests["Ingress"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "0"
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    scaled = manifests["HorizontalPodAutoscaler"]["spec"]
    assert (scaled["scaleTargetRef"]["name"], scaled["minReplicas"], scaled["maxReplicas"]) == ("asker", 2, 4)
    files = {path.name for path in (tmp_path / "many" / "kubernetes").glob("*.yaml")}
    assert {*manifests["Kustomization"]["resources"], "kustomization.yaml"} == files
    assert container["image"] == "registry.example.org/asker:7"
    assert "PORTICO_DATABASE=" in (tmp_path / "many" / ".env.example").read_text(encoding="utf-8")
    assert kubernetes(command, tmp_path / "one").keys() == {
        *("StatefulSet", "Service", "NetworkPolicy", "Kustomization")
    }


def test_compose_has_a_database_and_takes_its_secrets_from_outside(
    command: Command, client: Client, tmp_path: Path
) -> None:
    done = command("package", "asker", "--compose", "-o", str(tmp_path / "out"))
    assert done.code == 0, done.err
    document = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text(encoding="utf-8"))
    portico, database = document["services"]["portico"], document["services"]["postgres"]
    assert portico["read_only"] is True
    assert portico["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert document["secrets"] == {"postgres_password": {"environment": "POSTGRES_PASSWORD"}}
    volumes = {mount.partition(":")[0] for service in (portico, database) for mount in service["volumes"]}
    assert volumes == document["volumes"].keys()
    assert "POSTGRES_PASSWORD=\n" in (tmp_path / "out" / ".env.example").read_text(encoding="utf-8")


def test_the_dockerfile_has_only_steps_that_can_be_performed_without_an_engine(
    command: Command, client: Client, tmp_path: Path
) -> None:
    done = command("package", "asker", "--image", "--base", "python:3.12-slim", "-o", str(tmp_path / "out"))
    assert done.code == 0, done.err
    dockerfile = (tmp_path / "out" / "Dockerfile").read_text(encoding="utf-8")
    unwrapped_text = dockerfile.replace("\\\n", "")
    steps = [line.split(None, 1) for line in unwrapped_text.splitlines() if line and not line.startswith("#")]
    steps_script = (daemons.ROOT / "scripts" / "docker-steps").read_text(encoding="utf-8")
    assert all(f'"{word}"' in steps_script for word, _rest in steps)
    assert [step_arguments.split()[0] for word, step_arguments in steps if word == "FROM"] == [
        "python:3.12-slim"
    ] * 2
    for source in (
        step_arguments.split()[0]
        for word, step_arguments in steps
        if word == "COPY" and not step_arguments.startswith("--from")
    ):
        assert (tmp_path / "out" / source).exists()
    assert ["USER", "8642"] in steps
    [health] = [step_arguments for word, step_arguments in steps if word == "HEALTHCHECK"]
    assert "'/ready'" in json.loads(health.partition("CMD ")[2])[-1]
    assert (
        json.loads(next(step_arguments for word, step_arguments in steps if word == "ENTRYPOINT"))[-1]
        == "/app/portico.yaml"
    )


def test_a_configured_store_is_created_once_from_its_archive(
    command: Command, client: Client, tmp_path: Path
) -> None:
    client.stores.export_archive("handbook", tmp_path / "kept.zip")
    file = tmp_path / "portico.yaml"
    file.write_text("stores: [{name: kept, archive: kept.zip, description: Kept}]\n", encoding="utf-8")
    assert "+ stores/kept" in command("apply", "-f", str(file)).out
    assert client.stores.get("kept").file_counts.completed == 3
    assert client.stores.get("kept").description == "Kept"
    assert "0 created, 0 changed" in command("apply", "-f", str(file)).out
    (tmp_path / "kept.zip").write_bytes(b"PK")
    assert command("apply", "-f", str(file)).code == 0, "it is there: its archive is not looked at"
    for text, words in (
        ("{name: new, archive: kept.zip}", "stores[0].archive"),
        ("{name: new, archive: none.zip}", "is not a complete zip archive"),
        ("{name: new, archive: kept.zip, folder: .}", "an archive and a folder"),
    ):
        file.write_text(f"stores: [{text}]\n", encoding="utf-8")
        done = command("apply", "-f", str(file))
        assert done.code == 1
        assert words in done.err
