"""Stand-ins for the fine-tuning APIs of OpenAI, Zhipu, DashScope and SenseNova, written from their public documents.

One server has all four below ``/openai``, ``/zhipu``, ``/dashscope`` and ``/sensenova``:

- OpenAI: platform.openai.com/docs/api-reference/fine-tuning and /files (November 2026);
- Zhipu: docs.bigmodel.cn/cn/guide/tools/fine-tuning and its SDK, MetaGLM/zhipuai-sdk-python-v4;
- DashScope: help.aliyun.com/zh/model-studio: fine-tuning-api-guide (the three settings that an order must have, the
  words of a status), get-fine-tuning-job-logs-api (lines, ``offset``), model-customization-file-management-service,
  create-deployment-api (``plan: lora``);
- SenseNova: the calls and answers of LazyAGI/LazyLLM, onlinemodule/supplier/sensenova.py; its own document is no
  longer public.

A job trains one step each time it is queried, and stops before its end while it is ``held``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "provider-key-of-the-tests"
STEPS = 4
HELD_AT = 2
TOKENS = 123_000
MODEL = "some-model"
"""The only available base model."""


class RefusedError(Exception):
    """A provider's answer to an invalid request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class TuningJobAtProvider:
    """The request and its progress."""

    id: str
    asked: dict[str, Any]
    step: int = 0
    status: str = "running"

    @property
    def model(self) -> str:
        return f"{self.asked['model']}-tuned-{self.id}"


@dataclass
class Provider:
    """The state of one provider.

    ``fails`` is why its jobs fail; ``refuses`` is why it accepts no file. ``statuses`` are its next answers, given
    without doing anything. ``stalls`` is the end of the path of a POST that is executed but not answered until
    `released`.
    """

    files: dict[str, list[Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: list[TuningJobAtProvider] = field(default_factory=list)
    served: dict[str, int] = field(default_factory=dict)
    held: bool = False
    fails: str = ""
    refuses: str = ""
    keyed: bool = True
    statuses: list[int] = field(default_factory=list)
    chats: list[dict[str, Any]] = field(default_factory=list)
    stalls: str = ""
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def job(self, job_id: str) -> TuningJobAtProvider:
        matching_job = next((job for job in self.jobs if job.id == job_id), None)
        if matching_job is None:
            raise RefusedError(404, f"Could not find fine tune: {job_id}")
        return matching_job

    def look(self, job: TuningJobAtProvider) -> TuningJobAtProvider:
        """Query a job, which trains on until it is held."""
        if job.status == "running":
            if self.fails and job.step == HELD_AT:
                job.status = "failed"
            elif job.step < (HELD_AT if self.held else STEPS):
                job.step += 1
            elif not self.held:
                job.status = "succeeded"
        return job

    def begin(self, prefix: str, asked: dict[str, Any]) -> TuningJobAtProvider:
        if asked["model"] != MODEL:
            raise RefusedError(400, f"The model {asked['model']} does not exist or cannot be fine-tuned.")
        self.jobs.append(TuningJobAtProvider(f"{prefix}-{len(self.jobs) + 1}", asked))
        return self.jobs[-1]

    def keep(self, name: str, data: bytes) -> str:
        if self.refuses:
            raise RefusedError(400, self.refuses)
        file_id = f"file-{len(self.files) + 1}"
        self.names[file_id] = name
        self.files[file_id] = [json.loads(line) for line in data.splitlines() if line.strip()]
        return file_id

    def deploy(self, model: str) -> str:
        """Return the status of a deployment, which runs at the third query."""
        self.served[model] = self.served.get(model, 0) + 1
        return "RUNNING" if self.served[model] > 2 else "PENDING"


def need(condition: bool, message: str) -> None:
    if not condition:
        raise RefusedError(400, message)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    providers: dict[str, Provider]
    lock: threading.Lock

    def log_message(self, *_args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            data = b"".join(self._chunks())
        _empty, name, target = self.path.split("/", 2)
        provider = self.providers[name]
        path, _, query = target.partition("?")
        authorization = self.headers.get("Authorization") or ""
        stalls = False
        try:
            if authorization != f"Bearer {KEY}" or not provider.keyed:
                raise RefusedError(
                    401, f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}."
                )
            with self.lock:
                if provider.statuses:
                    raise RefusedError(provider.statuses.pop(0), "Try again later.")
                status, answer = getattr(self, f"_{name}")(provider, self.command, path, query, data)
                if self.command == "POST" and provider.stalls and path.endswith(provider.stalls):
                    stalls, provider.stalls = True, ""
        except RefusedError as error:
            plain = {"code": "InvalidParameter", "message": error.message}
            nested = {"error": {"message": error.message, "type": "invalid_request_error"}}
            status, answer = error.status, plain if name == "dashscope" else nested
        if stalls:
            provider.stalled.set()
            provider.released.wait(60)
        self._send(status, answer)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, status: int, answer: Any) -> None:
        streamed = isinstance(answer, list)
        body = json.dumps(answer).encode()
        if streamed:
            body = (
                b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in answer)
                + b"data: [DONE]\n\n"
            )
        try:
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # nobody waits for it any more
            self.close_connection = True

    def _form(self, data: bytes) -> tuple[dict[str, bytes], str]:
        """Return its fields, and the name of the file among them."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts: Any = message_from_bytes(head + data).get_payload()
        parts_by_name = {str(part.get_param("name", header="content-disposition")): part for part in parts}
        filename = next(part.get_filename() for part in parts if part.get_filename())
        return {name: part.get_payload(decode=True) or b"" for name, part in parts_by_name.items()}, filename

    def _said(self, provider: Provider, data: bytes) -> tuple[int, Any]:
        request = json.loads(data)
        provider.chats.append(request)
        message = {"role": "assistant", "content": f"I am {request['model']}."}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        completion = {"id": "c", "created": 1, "model": request["model"], "usage": usage}
        if request.get("stream"):
            choice: dict[str, Any] = {"index": 0, "delta": message, "finish_reason": "stop"}
            return 200, [{**completion, "object": "chat.completion.chunk", "choices": [choice]}]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return 200, {**completion, "object": "chat.completion", "choices": [choice]}

    # --- OpenAI ---------------------------------------------------------------------------------------------------

    def _openai(self, provider: Provider, method: str, path: str, query: str, data: bytes) -> tuple[int, Any]:
        match [method, *path.split("/")]:
            case ["GET", "v1", "files"]:
                entries = [{"id": file_id, "filename": name} for file_id, name in provider.names.items()]
                return 200, {"object": "list", "data": entries[::-1], "has_more": False}
            case ["POST", "v1", "files"]:
                form, filename = self._form(data)
                need(form.get("purpose") == b"fine-tune", "'purpose' is a required property.")
                return 200, {"id": provider.keep(filename, form["file"]), "object": "file"}
            case ["POST", "v1", "fine_tuning", "jobs"]:
                request = json.loads(data)
                need(request["training_file"] in provider.files, "invalid training_file")
                need(request["method"]["type"] in ("supervised", "dpo"), "invalid method")
                need("hyperparameters" in request["method"][request["method"]["type"]], "invalid method")
                return 200, self._openai_job(provider, provider.begin("ftjob", request))
            case ["GET", "v1", "fine_tuning", "jobs"]:
                entries = [self._openai_job(provider, job) for job in reversed(provider.jobs)]
                return 200, {"object": "list", "data": entries, "has_more": False}
            case ["GET", "v1", "fine_tuning", "jobs", job_id]:
                return 200, self._openai_job(provider, provider.look(provider.job(job_id)))
            case ["GET", "v1", "fine_tuning", "jobs", job_id, "events"]:
                return 200, self._openai_events(provider.job(job_id), query)
            case ["POST", "v1", "fine_tuning", "jobs", job_id, "cancel"]:
                provider.job(job_id).status = "cancelled"
                return 200, self._openai_job(provider, provider.job(job_id))
            case ["POST", "v1", "chat", "completions"]:
                return self._said(provider, data)
        raise RefusedError(404, f"Unknown: {path}")

    def _openai_job(self, provider: Provider, job: TuningJobAtProvider) -> dict[str, Any]:
        done = job.status == "succeeded"
        return {
            "object": "fine_tuning.job",
            "id": job.id,
            "model": job.asked["model"],
            "training_file": job.asked["training_file"],
            "status": job.status if job.step or job.status != "running" else "validating_files",
            "fine_tuned_model": job.model if done else None,
            "trained_tokens": TOKENS if done else None,
            "error": {"code": "bad", "message": provider.fails} if job.status == "failed" else {},
            "metadata": job.asked.get("metadata"),
            "request_id": job.asked.get("request_id"),
        }

    def _openai_events(self, job: TuningJobAtProvider, query: str) -> dict[str, Any]:
        """Return events newest first, in pages of at most two, so that clients request more than one page."""
        events = [{"id": "ev-0", "level": "info", "message": "Created", "type": "message", "data": {}}]
        for step in range(1, job.step + 1):
            values = {"step": step, "total_steps": STEPS, "train_loss": 2.0 / step}
            base_event = {"id": f"ev-{step}", "level": "info", "type": "metrics", "message": f"Step {step}"}
            events.append({**base_event, "data": values})
        events.reverse()
        cursor = re.search(r"after=(ev-\d+)", query)
        start = 0 if cursor is None else 1 + [event["id"] for event in events].index(cursor[1])
        return {"data": events[start : start + 2], "has_more": len(events) > start + 2}

    # --- Zhipu: OpenAI's format below another path ----------------------------------------------------------

    def _zhipu(self, provider: Provider, method: str, path: str, query: str, data: bytes) -> tuple[int, Any]:
        path = "v1" + path.removeprefix("api/paas/v4")
        if (method, path) == ("POST", "v1/fine_tuning/jobs"):
            request = json.loads(data)
            need(request["training_file"] in provider.files, "training_file")
            parameters = {"model", "training_file", "validation_file", "suffix", "request_id"}
            need(
                request.keys() <= parameters | {"hyperparameters", "extra_hyperparameters"},
                "unknown parameter",
            )
            need(request["extra_hyperparameters"] == {"fine_tuning_method": "lora"}, "extra_hyperparameters")
            return 200, self._openai_job(provider, provider.begin("ftjob", request))
        return self._openai(provider, method, path, query, data)

    # --- DashScope ------------------------------------------------------------------------------------------------

    def _dashscope(
        self, provider: Provider, method: str, path: str, query: str, data: bytes
    ) -> tuple[int, Any]:
        match [method, *path.split("/")]:
            case ["GET", "api", "v1", "files"]:
                files = [{"file_id": identifier, "name": name} for identifier, name in provider.names.items()]
                return 200, {"data": {"total": len(files), "files": files}}
            case ["POST", "api", "v1", "files"]:
                form, filename = self._form(data)
                need(form.get("purpose") == b"fine-tune", "purpose is required")
                file = {"file_id": provider.keep(filename, form["files"]), "name": filename}
                return 200, {"data": {"uploaded_files": [file], "failed_uploads": []}}
            case ["POST", "api", "v1", "fine-tunes"]:
                request = json.loads(data)
                need(set(request["training_file_ids"]) <= set(provider.files), "training_file_ids")
                need(request["training_type"] in ("sft", "efficient_sft", "dpo_lora"), "training_type")
                needed = {"n_epochs", "batch_size", "max_length"}
                need(needed <= request["hyper_parameters"].keys(), "hyper_parameters")
                return 200, {"output": self._dashscope_job(provider, provider.begin("ft", request))}
            case ["GET", "api", "v1", "fine-tunes"]:
                jobs = [self._dashscope_job(provider, job) for job in reversed(provider.jobs)]
                return 200, {"output": {"page_no": 1, "total": len(jobs), "jobs": jobs}}
            case ["GET", "api", "v1", "fine-tunes", job_id]:
                return 200, {"output": self._dashscope_job(provider, provider.look(provider.job(job_id)))}
            case ["GET", "api", "v1", "fine-tunes", job_id, "logs"]:
                offset = re.search(r"offset=(\d+)", query)
                job = provider.job(job_id)
                lines = ["2026-11-20 17:03:47,719 - INFO - data process succeeded, start to fine-tune"]
                lines += [
                    str({"loss": round(2.0 / step, 4), "learning_rate": 1.6e-5, "epoch": step / STEPS})
                    for step in range(1, job.step + 1)
                ]
                return 200, {
                    "output": {"total": len(lines), "logs": lines[int(offset[1]) if offset else 0 :]}
                }
            case ["POST", "api", "v1", "fine-tunes", job_id, "cancel"]:
                provider.job(job_id).status = "cancelled"
                return 200, {"output": {"status": "success"}}
            case ["GET", "api", "v1", "deployments"]:
                deployed = [self._deployed(provider, identifier) for identifier in provider.served]
                return 200, {"output": {"page_no": 1, "deployments": deployed}}
            case ["POST", "api", "v1", "deployments"]:
                request = json.loads(data)
                need(request.get("plan") == "lora" and request["model_name"] not in provider.served, "plan")
                return 200, {"output": self._deployed(provider, request["model_name"])}
            case ["POST", "compatible-mode", "v1", "chat", "completions"]:
                return self._said(provider, data)
        raise RefusedError(404, "Not Found!")

    def _dashscope_job(self, provider: Provider, job: TuningJobAtProvider) -> dict[str, Any]:
        words = {"running": "RUNNING" if job.step else "PENDING", "cancelled": "CANCELED"}
        body = {
            "job_id": job.id,
            "job_name": job.id,
            "status": words.get(job.status, job.status.upper()),
            "finetuned_output": job.model,
            "model": job.asked["model"],
            "training_file_ids": job.asked["training_file_ids"],
        }
        if job.status == "succeeded":
            body["usage"] = TOKENS
        return {**body, **({"code": "bad", "message": provider.fails} if job.status == "failed" else {})}

    def _deployed(self, provider: Provider, model: str) -> dict[str, Any]:
        status = provider.deploy(model)
        return {"deployed_model": f"{model}-deployed", "model_name": model, "status": status}

    # --- SenseNova ------------------------------------------------------------------------------------------------

    def _sensenova(
        self, provider: Provider, method: str, path: str, query: str, data: bytes
    ) -> tuple[int, Any]:
        match [method, *path.removeprefix("v1/llm/").split("/")]:
            case ["POST", "v1", "files"]:
                form, filename = self._form(data)
                need(form.get("scheme") == b"FINE_TUNE_2", "scheme")
                return 200, {"id": provider.keep(filename, form["file"])}
            case ["GET", "fine-tune", "datasets"]:
                return 200, {"datasets": list(provider.datasets.values())}
            case ["POST", "fine-tune", "datasets"]:
                request = json.loads(data)
                need(set(request["files"]) <= set(provider.files), "files")
                dataset = f"dataset-{len(provider.datasets) + 1}"
                new_dataset = {"id": dataset, "description": request["description"], "status": "PROCESSING"}
                provider.datasets[dataset] = new_dataset
                return 200, {"dataset": new_dataset}
            case ["GET", "fine-tune", "datasets", dataset]:
                dataset_copy = dict(provider.datasets[dataset])
                provider.datasets[dataset]["status"] = "READY"
                return 200, {"dataset": dataset_copy}
            case ["POST", "fine-tunes"]:
                request = json.loads(data)
                need(provider.datasets[request["training_file"]]["status"] == "READY", "training_file")
                return 200, {"job": self._sensenova_job(provider, provider.begin("job", request))}
            case ["GET", "fine-tunes"]:
                return 200, {"jobs": [self._sensenova_job(provider, job) for job in provider.jobs]}
            case ["GET", "fine-tunes", job_id]:
                return 200, {"job": self._sensenova_job(provider, provider.look(provider.job(job_id)))}
            case ["POST", "fine-tunes", job_id, "cancel"]:
                provider.job(job_id).status = "cancelled"
                return 200, {"job": self._sensenova_job(provider, provider.job(job_id))}
            case ["GET", "fine-tune", "servings"]:
                return 200, {"jobs": [self._serving(provider, model) for model in provider.served]}
            case ["POST", "fine-tune", "servings"]:
                need(json.loads(data)["model"] not in provider.served, "model")
                return 200, {"job": self._serving(provider, json.loads(data)["model"])}
            case ["POST", "compatible-mode", "v1", "chat", "completions"]:
                return self._said(provider, data)
        raise RefusedError(404, path)

    def _sensenova_job(self, provider: Provider, job: TuningJobAtProvider) -> dict[str, Any]:
        body = {"id": job.id, "status": job.status.upper(), "suffix": job.asked["suffix"]}
        if job.status == "succeeded":
            body |= {"fine_tuned_model": job.model}
        return {**body, **({"message": provider.fails} if job.status == "failed" else {})}

    def _serving(self, provider: Provider, model: str) -> dict[str, Any]:
        return {"id": f"serving-{model}", "model": model, "status": provider.deploy(model)}


NAMES = ("openai", "zhipu", "dashscope", "sensenova")


@contextmanager
def providers() -> Iterator[tuple[str, dict[str, Provider]]]:
    """Yield the server's address and the state of each provider, which may be replaced."""
    providers_by_name = {name: Provider() for name in NAMES}
    handler = type("_Bound", (_Handler,), {"providers": providers_by_name, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", providers_by_name
    finally:
        for provider in providers_by_name.values():
            provider.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
