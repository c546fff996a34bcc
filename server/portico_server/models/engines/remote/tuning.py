"""Fine-tuning APIs of providers: OpenAI's format, which Zhipu shares, and those of DashScope and SenseNova.

Based on their public documentation: platform.openai.com/docs/api-reference/fine-tuning; docs.bigmodel.cn (fine-tuning)
and Zhipu's Python SDK (MetaGLM/zhipuai-sdk-python-v4); help.aliyun.com/zh/model-studio (fine-tuning-api-guide,
get-fine-tuning-job-logs-api, model-customization-file-management-service, create-deployment-api). SenseNova's calls
follow LazyAGI/LazyLLM (onlinemodule/supplier/sensenova.py), because SenseNova's documentation is no longer public.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import orjson

from portico_server.core.errors import EngineFailed, InvalidRequest, Unavailable
from portico_server.core.hosted_tuning import (
    GONE,
    KEY_REFUSED,
    HostedEvent,
    HostedJob,
    HostedOrder,
    HostedStatus,
    HostedTuner,
)
from portico_server.http.client import failure_reason, open_session
from portico_server.models.endpoint import Endpoint
from portico_server.models.transport import CONNECT_TIMEOUT_S

CALL_TIMEOUT_S: Final = 60.0
UPLOAD_TIMEOUT_S: Final = 900.0

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of one response of a provider, in bytes."""

MAX_WORDS_CHARS: Final = 500
"""Maximum length, in characters, of a provider's message that is passed on."""

MAX_LISTED: Final = 100
"""Number of newest files, jobs or deployments that are searched for an object that Portico created."""

MAX_EVENT_PAGES: Final = 100
"""Maximum number of event pages read in one call."""

MAX_LOG_LINES: Final = 1_000

_STATUSES: Final[Mapping[str, HostedStatus]] = {
    **dict.fromkeys(("running", "canceling", "cancelling"), "running"),
    "succeeded": "succeeded",
    "failed": "failed",
    **dict.fromkeys(("cancelled", "canceled"), "cancelled"),
}
"""Job status for each status word of a provider.

Any other word means that the job is queued: ``validating_files``, ``PENDING``, ``QUEUING``, ``create``.
"""


class _Calls:
    """HTTP calls to one provider. The provider's key is redacted in every response."""

    def __init__(self, endpoint: Endpoint, provider: str) -> None:
        self._provider = provider
        self._headers = dict(endpoint.headers)
        if endpoint.key:
            self._headers["Authorization"] = f"Bearer {endpoint.key}"
        self._secrets = endpoint.secrets()

    async def json(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the provider and return the JSON object of the response.

        Raise `InvalidRequest` with the provider's message, or `Unavailable` or `EngineFailed` for a temporary error.
        """
        data, headers = None, self._headers
        if body is not None:
            data = orjson.dumps(
                {key: field_value for key, field_value in body.items() if field_value is not None}
            )
            headers = {**headers, "Content-Type": "application/json"}
        return await self._answer(method, url, headers, data, CALL_TIMEOUT_S)

    async def send(
        self, url: str, path: Path, name: str, fields: Mapping[str, str], field: str = "file"
    ) -> Any:
        """Post a form that contains a file, and return the JSON of the response."""
        with path.open("rb") as file:
            form = aiohttp.FormData(dict(fields))
            form.add_field(field, file, filename=name, content_type="application/jsonl")
            return await self._answer("POST", url, self._headers, form, UPLOAD_TIMEOUT_S)

    async def list_objects(self, url: str, *names: str) -> Sequence[Mapping[str, Any]]:
        """Return the objects of the list at the key path ``names``, or an empty list if the provider has no such
        list.
        """
        try:
            document = await self.json("GET", url)
        except InvalidRequest as error:
            if error.code == KEY_REFUSED:
                raise
            return ()
        for name in names:
            document = document.get(name) if isinstance(document, dict) else None
        return [item for item in document if isinstance(item, dict)] if isinstance(document, list) else ()

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], data: Any, seconds: float
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with (
                open_session(timeout) as session,
                session.request(method, url, headers=headers, data=data, allow_redirects=False) as answer,
            ):
                status, body = answer.status, await _read(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(
                f"'{self._provider}' cannot be reached: {failure_reason(error)}.",
                code="upstream_unreachable",
            ) from error
        body = self._secrets.remove_bytes(body)
        try:
            document = orjson.loads(body or b"null")
        except orjson.JSONDecodeError:
            document = None
        if 200 <= status < 300 and isinstance(document, dict):
            return document
        words = _words(document) or f"{method} {urlsplit(url).path}"
        if status in (408, 425, 429) or not 400 <= status < 500:
            raise EngineFailed(f"'{self._provider}' answered {status}: {words}", code="upstream_failed")
        code = {401: KEY_REFUSED, 403: KEY_REFUSED, 404: GONE}.get(status, "refused_by_provider")
        raise InvalidRequest(f"'{self._provider}' refuses it ({status}): {words}", code=code)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("the response is too long")
    return bytes(body)


def _words(document: Any) -> str:
    """Return a provider's error message, in any of the known formats."""
    if not isinstance(document, dict):
        return ""
    error = document.get("error")
    inner = error if isinstance(error, dict) else document
    return str(inner.get("message") or (error if isinstance(error, str) else ""))[:MAX_WORDS_CHARS]


def _field(field_value: Any, *names: str) -> Any:
    """Return the value at the key path ``names`` of a response. Raise `EngineFailed` if it is missing."""
    for name in names:
        field_value = field_value.get(name) if isinstance(field_value, Mapping) else None
    if field_value is None:
        raise EngineFailed(f"The provider's response has no '{'.'.join(names)}'.", code="upstream_failed")
    return field_value


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _part(text: str) -> str:
    return quote(text, safe="")


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="unsupported_example")


def _untooled(example: Mapping[str, Any], provider: str) -> Sequence[Mapping[str, Any]]:
    if example.get("tools"):
        raise _refusal(f"'{provider}' cannot train on tools; leave out 'tools'.")
    messages: Sequence[Mapping[str, Any]] = example["messages"]
    return messages


def _unweighted(messages: Sequence[Mapping[str, Any]], provider: str) -> list[dict[str, Any]]:
    """Return the messages without weights, for a provider that trains on every answer.

    Raise `InvalidRequest` if an answer has weight 0, that is, serves only as context.
    """
    if any(message.get("weight") == 0 for message in messages):
        raise _refusal(f"'{provider}' trains on every answer and does not support 'weight' 0.")
    return [
        {key: field_value for key, field_value in message.items() if key != "weight"} for message in messages
    ]


def _only_text(messages: Sequence[Mapping[str, Any]], provider: str) -> list[dict[str, Any]]:
    """Return the messages for a provider that accepts only text, and only from system, user and assistant.

    Raise `InvalidRequest` for any other message.
    """
    for message in messages:
        plain = message["role"] in ("system", "user", "assistant")
        if not plain or not isinstance(message.get("content"), str) or message.get("tool_calls"):
            raise _refusal(
                f"'{provider}' trains only on text messages with the role system, user or assistant, not on "
                f"this message with the role '{message['role']}'."
            )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


class _Tuning(ABC):
    """Base of all tuners. ``provider`` is the provider's name in messages, ``jobs`` the path of its fine-tuning
    jobs.
    """

    jobs: str
    methods: Sequence[str] = ("supervised",)
    takes: AbstractSet[str] = frozenset()
    price: float | None = None

    def __init__(self, endpoint: Endpoint, base: str, provider: str, missing: str = "") -> None:
        self.provider = provider
        self._calls = _Calls(endpoint, provider)
        self._url = endpoint.url
        self._base = base
        self.missing = missing

    @abstractmethod
    async def get(self, job_id: str) -> HostedJob:
        """See `portico_server.core.hosted_tuning.HostedTuner`."""

    async def cancel(self, job_id: str) -> None:
        """See `HostedTuner`."""
        if (await self.get(job_id)).status in ("queued", "running"):
            await self._calls.json("POST", f"{self._url}/{self.jobs}/{_part(job_id)}/cancel", {})


class OpenAITuning(_Tuning):
    """A tuner that uses ``/files`` and ``/fine_tuning/jobs`` of OpenAI and compatible providers."""

    jobs = "fine_tuning/jobs"
    methods: Sequence[str] = ("supervised", "dpo")
    takes: AbstractSet[str] = frozenset(
        ("validation_file", "n_epochs", "batch_size", "learning_rate_multiplier", "beta")
    )

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """See `portico_server.core.hosted_tuning.HostedTuner`."""
        if method == "supervised":
            return dict(example)
        tools = {"tools": example["tools"]} if example.get("tools") else {}
        return {
            "input": {"messages": example["prompt"], **tools},
            "preferred_output": example["chosen"],
            "non_preferred_output": example["rejected"],
        }

    async def upload(self, path: Path, name: str) -> str:
        """See `HostedTuner`."""
        query = f"?purpose=fine-tune&limit={MAX_LISTED}"
        for remote_file in await self._calls.list_objects(f"{self._url}/files{query}", "data"):
            if remote_file.get("filename") == name and remote_file.get("status") != "error":
                return str(_field(remote_file, "id"))
        response = await self._calls.send(f"{self._url}/files", path, name, {"purpose": "fine-tune"})
        return str(_field(response, "id"))

    async def create(self, order: HostedOrder) -> HostedJob:
        """See `HostedTuner`."""
        return self._job(await self._calls.json("POST", f"{self._url}/fine_tuning/jobs", self._body(order)))

    def _body(self, order: HostedOrder) -> Mapping[str, Any]:
        numbers = _without_none(
            n_epochs=order.n_epochs,
            batch_size=order.batch_size,
            learning_rate_multiplier=order.learning_rate_multiplier,
            beta=order.beta if order.method == "dpo" else None,
        )
        return {
            "model": self._base,
            "training_file": order.training,
            "validation_file": order.validation,
            "suffix": order.suffix or None,
            "seed": order.seed,
            "method": {"type": order.method, order.method: {"hyperparameters": numbers}},
            "metadata": {"portico_job": order.key},
        }

    async def find(self, key: str, training: str) -> HostedJob | None:
        """See `HostedTuner`. Finds the job by its training file, which no other job uses."""
        url = f"{self._url}/fine_tuning/jobs?limit={MAX_LISTED}"
        jobs = await self._calls.list_objects(url, "data")
        return next(
            (self._job(job) for job in jobs if training and job.get("training_file") == training), None
        )

    async def get(self, job_id: str) -> HostedJob:
        """See `HostedTuner`."""
        return self._job(await self._calls.json("GET", f"{self._url}/fine_tuning/jobs/{_part(job_id)}"))

    def _job(self, job_document: Mapping[str, Any]) -> HostedJob:
        error, tokens, ends = (
            job_document.get("error"),
            job_document.get("trained_tokens"),
            job_document.get("estimated_finish"),
        )
        return HostedJob(
            str(_field(job_document, "id")),
            _status(job_document.get("status")),
            str(job_document.get("fine_tuned_model") or ""),
            tokens if isinstance(tokens, int) else None,
            _words(job_document) if isinstance(error, dict) else "",
            float(ends) if isinstance(ends, int | float) and ends > 0 else None,
        )

    async def events(self, job_id: str, after: str) -> Sequence[HostedEvent]:
        """See `HostedTuner`. Events arrive newest first, in pages."""
        hosted_events: list[HostedEvent] = []
        query = f"?limit={MAX_LISTED}"
        for _page in range(MAX_EVENT_PAGES):
            url = f"{self._url}/fine_tuning/jobs/{_part(job_id)}/events{query}"
            document = await self._calls.json("GET", url)
            page = [self._event(event) for event in document.get("data") or () if isinstance(event, dict)]
            fresh = page[
                : next(
                    (at for at, hosted_event in enumerate(page) if hosted_event.cursor == after), len(page)
                )
            ]
            hosted_events += fresh
            if not page or len(fresh) < len(page) or not document.get("has_more"):
                break
            query = f"?limit={MAX_LISTED}&after={_part(page[-1].cursor)}"
        return hosted_events[::-1]

    def _event(self, event_document: Mapping[str, Any]) -> HostedEvent:
        event_data = event_document.get("data")
        data: Mapping[str, Any] = event_data if isinstance(event_data, dict) else {}
        level = event_document.get("level")
        values = _numbers(
            train_loss=data.get("train_loss", data.get("loss")),
            train_accuracy=data.get("train_mean_token_accuracy", data.get("acc")),
            valid_loss=data.get("valid_loss"),
            valid_accuracy=data.get("valid_mean_token_accuracy"),
        )
        step, total = data.get("step", data.get("current_steps")), data.get("total_steps")
        return HostedEvent(
            str(_field(event_document, "id")),
            str(event_document.get("message") or ""),
            level if level in ("warn", "error") else "info",
            step if isinstance(step, int) else None,
            total if isinstance(total, int) else None,
            values,
        )

    async def serve(self, model: str) -> str | None:
        """See `HostedTuner`. A trained model can be called as soon as it exists."""
        return model


class ZhipuTuning(OpenAITuning):
    """A tuner for Zhipu. Its API is OpenAI's with different names: ``extra_hyperparameters``, and ``request_id``
    instead of metadata.
    """

    methods: Sequence[str] = ("supervised",)
    takes: AbstractSet[str] = frozenset(
        ("validation_file", "n_epochs", "batch_size", "learning_rate_multiplier")
    )

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """See `HostedTuner`."""
        return {**example, "messages": _unweighted(example["messages"], self.provider)}

    def _body(self, order: HostedOrder) -> Mapping[str, Any]:
        numbers = _without_none(
            n_epochs=order.n_epochs,
            batch_size=order.batch_size,
            learning_rate_multiplier=order.learning_rate_multiplier,
        )
        return {
            "model": self._base,
            "training_file": order.training,
            "validation_file": order.validation,
            "suffix": order.suffix or None,
            "hyperparameters": numbers or None,
            "extra_hyperparameters": {"fine_tuning_method": "lora"},
            "request_id": order.key,
        }


class DashScopeTuning(_Tuning):
    """A tuner for DashScope's ``/api/v1/fine-tunes``. A trained model must be deployed, billed per token, before
    use.
    """

    jobs = "fine-tunes"
    methods: Sequence[str] = ("supervised", "dpo")
    takes: AbstractSet[str] = frozenset(("validation_file", "n_epochs", "batch_size"))

    _TYPES: Final[Mapping[str, str]] = {"supervised": "efficient_sft", "dpo": "dpo_lora"}
    _NEEDED: Final[Mapping[str, int]] = {"n_epochs": 3, "batch_size": 16, "max_length": 8192}
    """DashScope's recommended values of the three hyperparameters that it requires."""
    _VALUES: Final = re.compile(r"'(?P<name>loss|eval_loss)': (?P<value>\d{1,12}(?:\.\d{1,20})?)")
    _NAMES: Final[Mapping[str, str]] = {"loss": "train_loss", "eval_loss": "valid_loss"}

    def __init__(self, endpoint: Endpoint, base: str, provider: str, missing: str = "") -> None:
        super().__init__(endpoint, base, provider, missing)
        self._url = f"{endpoint.url.partition('/compatible-mode')[0]}/api/v1"

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """See `HostedTuner`."""
        if method == "supervised":
            messages = _unweighted(_untooled(example, self.provider), self.provider)
            return {"messages": _only_text(messages, self.provider)}
        prompt = _only_text(
            _untooled({**example, "messages": example["prompt"]}, self.provider), self.provider
        )
        preferred, rejected_messages = (
            _only_text(example[key], self.provider) for key in ("chosen", "rejected")
        )
        if len(preferred) != 1 or len(rejected_messages) != 1:
            raise _refusal(f"'{self.provider}' compares exactly two answers, each a single message.")
        return {"messages": prompt, "chosen": preferred[0], "rejected": rejected_messages[0]}

    async def upload(self, path: Path, name: str) -> str:
        """See `HostedTuner`."""
        url = f"{self._url}/files?page_no=1&page_size={MAX_LISTED}"
        for remote_file in await self._calls.list_objects(url, "data", "files"):
            if remote_file.get("name") == name:
                return str(_field(remote_file, "file_id"))
        fields = {"purpose": "fine-tune", "descriptions": "portico"}
        response = await self._calls.send(f"{self._url}/files", path, name, fields, "files")
        data = _field(response, "data")
        if not data.get("uploaded_files"):
            failed_upload = (data.get("failed_uploads") or [{}])[0]
            raise InvalidRequest(
                f"'{self.provider}' refuses the file: {_words(failed_upload) or 'it does not say why'}",
                code="refused_by_provider",
                param="training_file",
            )
        return str(_field(data["uploaded_files"][0], "file_id"))

    async def create(self, order: HostedOrder) -> HostedJob:
        """See `HostedTuner`."""
        numbers = _without_none(n_epochs=order.n_epochs, batch_size=order.batch_size)
        body = {
            "model": self._base,
            "training_file_ids": [order.training],
            "validation_file_ids": [order.validation] if order.validation else None,
            "training_type": self._TYPES[order.method],
            "hyper_parameters": {**self._NEEDED, **numbers},
            "job_name": order.key,
            "finetuned_output_suffix": order.suffix or None,
        }
        return self._job(_field(await self._calls.json("POST", f"{self._url}/fine-tunes", body), "output"))

    async def find(self, key: str, training: str) -> HostedJob | None:
        """See `HostedTuner`. Finds the job by its training file, which no other job uses."""
        url = f"{self._url}/fine-tunes?page_no=1&page_size={MAX_LISTED}"
        jobs = await self._calls.list_objects(url, "output", "jobs")
        matching_jobs = (job for job in jobs if training and training in (job.get("training_file_ids") or ()))
        return next(map(self._job, matching_jobs), None)

    async def get(self, job_id: str) -> HostedJob:
        """See `HostedTuner`."""
        document = await self._calls.json("GET", f"{self._url}/fine-tunes/{_part(job_id)}")
        return self._job(_field(document, "output"))

    def _job(self, job_document: Mapping[str, Any]) -> HostedJob:
        status, usage = _status(job_document.get("status")), job_document.get("usage")
        return HostedJob(
            str(_field(job_document, "job_id")),
            status,
            str(job_document.get("finetuned_output") or "") if status == "succeeded" else "",
            usage if isinstance(usage, int) else None,
            _words(job_document) if status == "failed" else "",
        )

    async def events(self, job_id: str, after: str) -> Sequence[HostedEvent]:
        """See `HostedTuner`. Each event is a line of a log; its cursor is the line's number, counted from 1."""
        known_lines = int(after or 0)
        url = f"{self._url}/fine-tunes/{_part(job_id)}/logs?offset={known_lines}&line={MAX_LOG_LINES}"
        log_document = _field(await self._calls.json("GET", url), "output")
        lines = [str(line) for line in log_document.get("logs") or ()]
        return [self._event(line, number) for number, line in enumerate(lines, known_lines + 1)]

    def _event(self, line: str, number: int) -> HostedEvent:
        metric_values = {
            self._NAMES[match["name"]]: float(match["value"]) for match in self._VALUES.finditer(line)
        }
        return HostedEvent(str(number), line.strip(), values=metric_values)

    async def serve(self, model: str) -> str | None:
        """See `HostedTuner`."""
        url = f"{self._url}/deployments?page_no=1&page_size={MAX_LISTED}"
        for deployment in await self._calls.list_objects(url, "output", "deployments"):
            if deployment.get("model_name") == model:
                return self._ready(deployment)
        body = {"model_name": model, "plan": "lora", "capacity": 1}
        return self._ready(_field(await self._calls.json("POST", f"{self._url}/deployments", body), "output"))

    def _ready(self, deployment: Mapping[str, Any]) -> str | None:
        return str(_field(deployment, "deployed_model")) if _runs(deployment, self.provider) else None


class SenseNovaTuning(_Tuning):
    """A tuner for SenseNova's ``/v1/llm/fine-tunes``. An uploaded file becomes a data set; a model is deployed on
    request.
    """

    jobs = "fine-tunes"

    def __init__(self, endpoint: Endpoint, base: str, provider: str, missing: str = "") -> None:
        super().__init__(endpoint, base, provider, missing)
        root = endpoint.url.partition("/compatible-mode")[0]
        self._url = f"{root}/v1/llm"
        parts = urlsplit(root)
        host = parts.netloc.replace("api.", "file.", 1) if parts.netloc.startswith("api.") else parts.netloc
        self._files = f"{urlunsplit(parts._replace(netloc=host))}/v1/files"

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """See `HostedTuner`."""
        messages = _unweighted(_untooled(example, self.provider), self.provider)
        return _only_text(messages, self.provider)

    async def upload(self, path: Path, name: str) -> str:
        """See `HostedTuner`. Returns the id of the data set, whose description is the file's name."""
        url = f"{self._url}/fine-tune/datasets"
        for dataset in await self._calls.list_objects(url, "datasets"):
            if dataset.get("description") == name and str(dataset.get("status")).lower() != "invalid":
                return str(_field(dataset, "id"))
        fields = {"description": name, "scheme": "FINE_TUNE_2"}
        file = _field(await self._calls.send(self._files, path, name, fields), "id")
        response = await self._calls.json("POST", url, {"description": name, "files": [file]})
        return str(_field(response, "dataset", "id"))

    async def create(self, order: HostedOrder) -> HostedJob:
        """See `HostedTuner`. Raises `Unavailable` if the data set is not ready yet, so that the caller retries."""
        document = await self._calls.json("GET", f"{self._url}/fine-tune/datasets/{_part(order.training)}")
        dataset = _field(document, "dataset")
        status = str(dataset.get("status")).lower()
        if status in ("invalid", "failed"):
            raise InvalidRequest(
                f"'{self.provider}' refuses the data set: {_words(dataset) or 'it does not say why'}",
                code="refused_by_provider",
                param="training_file",
            )
        if status != "ready":
            raise Unavailable(f"'{self.provider}' is still checking the data set.", code="not_ready")
        body = {
            "model": self._base,
            "training_file": order.training,
            "suffix": f"{order.suffix}-{order.key}".lstrip("-"),
        }
        return self._job(await self._calls.json("POST", f"{self._url}/fine-tunes", body))

    async def find(self, key: str, training: str) -> HostedJob | None:
        """See `HostedTuner`."""
        jobs = await self._calls.list_objects(f"{self._url}/fine-tunes", "jobs")
        matching_jobs = (
            job
            for job in jobs
            if str(job.get("suffix") or "").endswith(key)
            or (training and job.get("training_file") == training)
        )
        return next((self._job({"job": job}) for job in matching_jobs), None)

    async def get(self, job_id: str) -> HostedJob:
        """See `HostedTuner`."""
        return self._job(await self._calls.json("GET", f"{self._url}/fine-tunes/{_part(job_id)}"))

    def _job(self, answer: Mapping[str, Any]) -> HostedJob:
        job_document = _field(answer, "job")
        status, tokens = _status(job_document.get("status")), job_document.get("trained_tokens")
        return HostedJob(
            str(_field(job_document, "id")),
            status,
            str(job_document.get("fine_tuned_model") or ""),
            tokens if isinstance(tokens, int) else None,
            _words(job_document) if status == "failed" else "",
        )

    async def events(self, job_id: str, after: str) -> Sequence[HostedEvent]:
        """See `HostedTuner`. Returns no events, because the provider reports only the status."""
        return ()

    async def serve(self, model: str) -> str | None:
        """See `HostedTuner`."""
        url = f"{self._url}/fine-tune/servings"
        for deployment in await self._calls.list_objects(url, "jobs"):
            if deployment.get("model") == model:
                return model if _runs(deployment, self.provider) else None
        response = await self._calls.json("POST", url, {"model": model, "config": {"run_time": 0}})
        return model if _runs(_field(response, "job"), self.provider) else None


def _runs(deployment: Mapping[str, Any], provider: str) -> bool:
    """Return whether a deployment is running. Raise `EngineFailed` if it has failed or stopped."""
    status = str(deployment.get("status")).lower()
    if status in ("failed", "offline", "stopped", "unhealthy"):
        raise EngineFailed(f"'{provider}' could not deploy the result: {status}.", code="deployment_failed")
    return status == "running"


def _status(word: Any) -> HostedStatus:
    return _STATUSES.get(str(word).lower(), "queued")


def _numbers(**values: Any) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


TUNERS: Final[Mapping[str, Callable[[Endpoint, str, str, str], HostedTuner]]] = {
    "openai": OpenAITuning,
    "zhipu": ZhipuTuning,
    "dashscope": DashScopeTuning,
    "sensenova": SenseNovaTuning,
}
"""Tuners by the name that presets and the model parameter ``tuning`` use for them."""
