"""Chats and completions with one causal model, with or without image input: each call is a stream with one choice.

The daemon's client (`portico_server.models.engines.openai_client.client`) adds several choices, tools and complete
documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from .adapters import LoadedAdapters
from .caller import Caller
from .embed import load_model
from .errors import CallerGone, Refusal
from .folder import ModelFolder, check_weights
from .generate import GeneratedToken, TokenGenerator
from .images import MAX_IMAGES, read_image
from .model_queue import ModelQueue
from .options import read_options
from .placement import WorkerSettings, choose_placement
from .tokenize_task import TokenizeTask

_RESERVED = frozenset(
    {"conversation", "messages", "tokenize", "return_tensors", "return_dict", "chat_template"}
)


class ChatTask:
    """The task ``chat``."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=True)
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self._processor = AutoProcessor.from_pretrained(folder.path, **local) if folder.sees else None
        self._tokenizer = (
            self._processor.tokenizer
            if self._processor
            else AutoTokenizer.from_pretrained(folder.path, **local)
        )
        self._templates = self._processor or self._tokenizer
        if settings.chat_template is not None:
            self._templates.chat_template = settings.chat_template.read_text(encoding="utf-8")
        elif self._templates.chat_template is None:
            self._templates.chat_template = self._tokenizer.chat_template
        # this first call fixes the tokenizer's settings, so several threads can use it from now on
        self._tokenizer("warm")
        self._model = load_model(
            AutoModelForImageTextToText if folder.sees else AutoModelForCausalLM, folder, self._placement
        )
        self._generator = TokenGenerator(self._model, self._tokenizer)
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self._adapters = LoadedAdapters(self._model, settings.name, self._turns)
        self.context_length = settings.context_length or folder.context_length or 2048
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = folder.sees

    def routes(self) -> dict[str, Any]:
        return {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.complete,
            **self._adapters.routes(),
            **TokenizeTask(self._tokenizer, self.context_length, self._render).routes(),
        }

    def chat(self, body: Mapping[str, Any], client: Caller) -> None:
        """Stream an OpenAI chat."""
        messages, images = self._messages(body.get("messages"))
        prompt = self._prompt(messages, body.get("chat_template_kwargs"))
        self._answer(body, self._inputs(prompt, images, special=False), "messages", client, chat=True)

    def complete(self, body: Mapping[str, Any], client: Caller) -> None:
        """Stream an OpenAI completion of one prompt."""
        prompt = body.get("prompt")
        if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
            width = len(self._tokenizer)
            if not all(0 <= token < width for token in prompt):
                raise Refusal(
                    f"'prompt' has token ids outside the model's vocabulary of {width:,}.", param="prompt"
                )
            inputs: dict[str, Any] = {"input_ids": [prompt], "attention_mask": [[1] * len(prompt)]}
        elif isinstance(prompt, str):
            inputs = self._inputs(prompt, [], special=True)
        else:
            raise Refusal("'prompt' must be a text or a list of token ids.", param="prompt")
        self._answer(body, inputs, "prompt", client, chat=False)

    def _answer(
        self, body: Mapping[str, Any], inputs: Mapping[str, Any], param: str, client: Caller, *, chat: bool
    ) -> None:
        if body.get("stream") is not True:
            raise Refusal("This engine only streams: set 'stream'.", param="stream")
        options = read_options(body, chat=chat)
        length = len(inputs["input_ids"][0])
        free_tokens = self.context_length - length
        if free_tokens < 1:
            raise Refusal(
                f"The prompt has {length} tokens, but the context of '{self._name}' has "
                f"{self.context_length}. Shorten the prompt, or choose a model with a larger context.",
                "context_length_exceeded",
                param,
            )
        if not length:
            raise Refusal(f"'{param}' contains no tokens.", param=param)
        constraint = self._generator.constraint(options)
        frames = _Frames(client, chat=chat)
        if self._turns.busy:
            client.comment("waiting for the model")
        with self._turns.turn(client.has_left), self._adapters.activate(body.get("adapter")):
            limit = min(free_tokens, options.limit) if "max_tokens" in body else free_tokens
            count = (
                self._generator.run(self._to_device(inputs), options, constraint, limit, frames.write)
                if limit
                else 0
            )
            if not limit:
                frames.write(GeneratedToken("", None, "length"))
        frames.end(length, count)

    def _messages(self, value: Any) -> tuple[list[dict[str, Any]], list[Any]]:
        """Return the messages in the form that templates expect, and the images in order."""
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise Refusal("'messages' must be a list of messages.", param="messages")
        images: list[Any] = []
        messages = []
        for number, message in enumerate(value):
            parts = _parts(message.get("content"), f"messages[{number}].content")
            message_images = [
                read_image(part["image_url"]["url"], at) for part, at in parts if part["type"] == "image_url"
            ]
            images += message_images
            if message_images and not self._processor:
                raise Refusal(
                    f"'{self._name}' reads only text. Choose a model that accepts images.",
                    "unsupported_content",
                    f"messages[{number}].content",
                )
            content: Any = "".join(part.get("text", "") for part, _ in parts)
            if self._processor:
                content = [
                    {"type": "image"}
                    if part["type"] == "image_url"
                    else {"type": "text", "text": part["text"]}
                    for part, _ in parts
                ]
            messages.append({**message, "content": content})
        if len(images) > MAX_IMAGES:
            raise Refusal(
                f"The request has {len(images)} images; at most {MAX_IMAGES} are allowed.", param="messages"
            )
        return messages, images

    def _prompt(self, messages: list[dict[str, Any]], options: Any) -> str:
        if self._templates.chat_template is None:
            raise Refusal(
                f"'{self._name}' has no chat template. Set the model's parameter 'chat_template' to the path "
                "of a Jinja file, or use completions.",
                "no_chat_template",
                "messages",
            )
        extra = (
            {name: value for name, value in options.items() if name not in _RESERVED}
            if isinstance(options, dict)
            else {}
        )
        try:
            text: str = self._templates.apply_chat_template(
                messages, **{"add_generation_prompt": True, **extra}, tokenize=False
            )
        except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
            raise Refusal(
                f"The chat template of '{self._name}' rejects these messages: {error}", param="messages"
            ) from error
        return text

    def _render(self, value: Any, generation: bool) -> str:
        messages, _images = self._messages(value)
        return self._prompt(messages, {"add_generation_prompt": generation})

    def _inputs(self, prompt: str, images: list[Any], *, special: bool) -> dict[str, Any]:
        if images and self._processor:
            try:
                return dict(
                    self._processor(
                        text=[prompt], images=images, return_tensors="pt", add_special_tokens=special
                    )
                )
            except (ValueError, TypeError, IndexError) as error:
                raise Refusal(
                    f"The images do not match the messages for '{self._name}': {error}", param="messages"
                ) from error
        return dict(self._tokenizer([prompt], add_special_tokens=special, return_token_type_ids=False))

    def _to_device(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
        return {
            name: value.to(self._placement.device, self._model.dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }


class _Frames:
    """Writes one choice as OpenAI's chunks."""

    def __init__(self, client: Caller, *, chat: bool) -> None:
        self._client = client
        self._chat = chat

    def write(self, step: GeneratedToken) -> None:
        """Write a token, or the end of the choice. Raise `CallerGone` if the caller has left."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        choice["logprobs"] = {"content": [step.logprob]} if step.logprob is not None else None
        if step.text or step.logprob is not None:
            text: dict[str, Any] = {"delta": {"content": step.text}} if self._chat else {"text": step.text}
            self._client.event({"choices": [{**choice, **text}]})
        elif step.finish is None and self._client.has_left():
            raise CallerGone
        if step.finish is not None:
            empty: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
            self._client.event({"choices": [{"index": 0, **empty, "finish_reason": step.finish}]})

    def end(self, prompt: int, completion: int) -> None:
        """Write the token counts and the end of the stream."""
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        self._client.event({"choices": [], "usage": usage})
        self._client.finish()


def _parts(content: Any, path: str) -> list[tuple[dict[str, Any], str]]:
    """Return a message's content as parts of the types ``text`` and ``image_url``, each with its path in the
    request.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [({"type": "text", "text": content}, path)]
    if not isinstance(content, list):
        raise Refusal(f"'{path}' must be a text or a list of parts.", param=path)
    typed_parts = []
    for index, part in enumerate(content):
        at = f"{path}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url" and isinstance(part.get("image_url"), dict):
            typed_parts.append(({"type": kind, "image_url": {"url": part["image_url"].get("url")}}, at))
        elif kind == "text" and isinstance(part.get("text"), str):
            typed_parts.append(({"type": kind, "text": part["text"]}, at))
        else:
            raise Refusal(f"'{at}' is of the type '{kind}'; only text and image_url are supported.", param=at)
    return typed_parts
