"""Generates images from text or other images with a pipeline of diffusers, step by step."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    DiffusionPipeline,
)
from diffusers.utils import logging

from .attached_files import attached_files
from .caller import Caller
from .errors import Refusal, UnusableModel
from .folder import ModelFolder, check_weights, weights_variant
from .images import encode_picture, fit_size, inpainting_mask, open_picture, output_format
from .model_queue import ModelQueue
from .pipelines import (
    is_first_argument,
    only_inpaints,
    sibling_pipeline,
    size_step,
    takes_argument,
    trained_size,
)
from .placement import WorkerSettings, choose_placement
from .previews import preview_of

MAX_DRAWN_PIXELS = 2048 * 2048
"""Default maximum number of pixels of a generated image."""

PATCH_PIXELS = 16
"""Side length, in pixels, of a square that counts as one token."""

STEPS_BY_QUALITY = {"low": 0.5, "high": 1.5, "hd": 1.5, "xhigh": 2.0, "max": 3.0}
"""Factor by which each quality multiplies the number of steps."""

MULTI_IMAGE_PIPELINES = ("QwenImageEditPlus", "Flux2")
"""Prefixes of the pipeline classes that accept several images in one request."""

ReportStep = Callable[[int, int, Any], None]
"""Callback after each finished step: its number, the number of steps, and the current state of the image."""


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """One request: the number of images, the diffusers arguments for each image, and the first random seed."""

    pipe: Any
    arguments: Mapping[str, Any]
    count: int
    steps: int
    seed: int
    size: tuple[int, int]


class ImageTask:
    """The ``image`` task. ``edits`` is whether the model can also edit images."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self._placement = choose_placement(settings, generates=False)
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self._max_pixels = settings.max_pixels or MAX_DRAWN_PIXELS
        pipe = self._load(folder)
        self._pipes = {
            "draw": sibling_pipeline(AutoPipelineForText2Image, pipe),
            "change": sibling_pipeline(AutoPipelineForImage2Image, pipe),
            "fill": sibling_pipeline(AutoPipelineForInpainting, pipe),
        }
        if not any(self._pipes.values()):
            # None of diffusers' tables lists the pipeline's class, so the pipeline is used as it is.
            self._pipes["change" if is_first_argument(pipe, "image") else "draw"] = pipe
        if only_inpaints(pipe):
            self._pipes |= {"draw": None, "change": None}
        self.edits = bool(self._pipes["change"] or self._pipes["fill"])
        self.context_length = self.dimensions = 0
        self.sees = False
        parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        self.parameters = sum(weight.numel() for part in parts for weight in part.parameters())

    def routes(self) -> dict[str, Any]:
        return {"/v1/images/generations": self.draw, "/v1/images/edits": self.change}

    def _load(self, folder: ModelFolder) -> Any:
        try:
            pipe = DiffusionPipeline.from_pretrained(
                folder.path,
                dtype=self._placement.dtype,
                variant=weights_variant(folder.path, folder.config),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        except (ValueError, KeyError, OSError, AttributeError, ImportError, TypeError) as error:
            words = " ".join(str(error).split())
            raise UnusableModel(f"diffusers cannot load {folder.path}: {words[:600]}") from error
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(self._placement.device)

    def draw(self, body: Mapping[str, Any], client: Caller) -> dict[str, Any] | None:
        """Handle OpenAI's ``images/generations``."""
        pipe = self._pipes["draw"]
        if pipe is None:
            raise Refusal(
                f"'{self._name}' only edits images: send an image to images/edits.",
                "unsupported_operation",
                "model",
            )
        size = self._size(body, pipe)
        arguments: dict[str, Any] = {"width": size[0], "height": size[1]} if size else {}
        if body.get("strength") is not None:
            arguments["strength"] = body["strength"]
        return self._answer(body, self._order(body, pipe, arguments, size), "image_generation", client)

    def change(self, body: Mapping[str, Any], client: Caller) -> dict[str, Any] | None:
        """Handle OpenAI's ``images/edits``: edit the first image, entirely or where ``mask`` is transparent."""
        pictures = [open_picture(file.data, "image") for file in attached_files(body, "image")]
        masks = [open_picture(file.data, "mask", "RGBA") for file in attached_files(body, "mask")]
        pipe = self._pipes["fill" if masks else "change"]
        if not pictures:
            raise Refusal("'image' is missing.", param="image")
        if pipe is None:
            manner = "with a mask" if masks else "without a mask"
            raise Refusal(
                f"'{self._name}' does not edit images {manner}.",
                "unsupported_operation",
                "mask" if masks else "image",
            )
        if len(pictures) > 1 and not type(pipe).__name__.startswith(MULTI_IMAGE_PIPELINES):
            raise Refusal(f"'{self._name}' accepts one image, not {len(pictures)}.", param="image")
        width, height = pictures[0].size
        size = self._size(body, pipe) or fit_size(width, height, size_step(pipe), self._max_pixels)
        if len(pictures) == 1:
            pictures[0] = pictures[0].resize(size)
        arguments: dict[str, Any] = {"image": pictures[0] if len(pictures) == 1 else pictures}
        if masks:
            arguments["mask_image"] = inpainting_mask(masks[0]).resize(size)
        if takes_argument(pipe, "width") and takes_argument(pipe, "height"):
            arguments |= {"width": size[0], "height": size[1]}
        if body.get("strength") is not None:
            arguments["strength"] = body["strength"]
        return self._answer(body, self._order(body, pipe, arguments, size), "image_edit", client)

    def _size(self, body: Mapping[str, Any], pipe: Any) -> tuple[int, int] | None:
        """Return the requested size, or ``None`` for the model's default. Raise `Refusal` if the size is not
        supported.
        """
        text = body.get("size") or "auto"
        if text == "auto":
            return trained_size(pipe, self._max_pixels)
        sides = str(text).split("x")
        if len(sides) != 2 or not all(side.isdecimal() and 0 < len(side) < 7 for side in sides):
            raise Refusal(f"'size' is '{str(text)[:40]}', but must be auto or WIDTHxHEIGHT.", param="size")
        width, height = (int(side) for side in sides)
        step = size_step(pipe)
        if width * height > self._max_pixels:
            raise Refusal(
                f"'size' is {text}, which has {width * height:,} pixels; '{self._name}' draws at most "
                f"{self._max_pixels:,}. To change this limit, set the model's parameter 'max_pixels'.",
                param="size",
            )
        if width % step or height % step:
            near = "x".join(str(side) for side in fit_size(width, height, step, self._max_pixels))
            raise Refusal(
                f"'size' is {text}, but width and height must be multiples of {step} pixels for "
                f"'{self._name}'. Use {near}.",
                param="size",
            )
        return width, height

    def _order(
        self, body: Mapping[str, Any], pipe: Any, arguments: dict[str, Any], size: tuple[int, int] | None
    ) -> ImageOrder:
        usual = inspect.signature(pipe.__call__).parameters["num_inference_steps"].default
        steps = body.get("steps") or max(
            1, round(usual * STEPS_BY_QUALITY.get(body.get("quality") or "", 1.0))
        )
        arguments |= {"prompt": body["prompt"], "num_inference_steps": steps}
        for name in ("negative_prompt", "guidance_scale"):
            if body.get(name) is not None:
                arguments[name] = body[name]
        for name in arguments:
            if not takes_argument(pipe, name):
                raise Refusal(
                    f"'{self._name}' does not support '{name}': leave it out.", "unsupported_parameter", name
                )
        steps = int(steps * self._share(body, pipe))
        if steps < 1:
            raise Refusal(
                "'strength' is so low that no step remains: raise it, or raise 'steps'.", param="strength"
            )
        seed = body.get("seed")
        seed = random.getrandbits(32) if seed is None else int(seed) % 2**63
        return ImageOrder(pipe, arguments, int(body.get("n") or 1), int(steps), seed, size or (0, 0))

    @staticmethod
    def _share(body: Mapping[str, Any], pipe: Any) -> float:
        """Return the share of the steps that are computed: an edit skips the first steps."""
        parameter = inspect.signature(pipe.__call__).parameters.get("strength")
        if parameter is None:
            return 1.0
        strength = body.get("strength")
        return min(1.0, float(parameter.default if strength is None else strength))

    def _answer(
        self, body: Mapping[str, Any], order: ImageOrder, event: str, client: Caller
    ) -> dict[str, Any] | None:
        kind, quality = output_format(body)
        streams = body.get("stream") is True
        partials = _moments(order.steps, int(body.get("partial_images") or 0)) if streams else ()
        facts: dict[str, Any] = {"output_format": kind, "background": "opaque"}
        effort = body.get("quality") or "auto"
        facts["quality"] = {"hd": "high", "standard": "medium"}.get(effort, effort)
        data = []
        if streams and self._turns.busy:
            client.comment("waiting for the model")
        with self._turns.turn(client.has_left), torch.inference_mode():
            for number in range(order.count):

                def report(done_steps: int, of: int, latents: Any) -> None:
                    client.check()
                    if streams:
                        client.comment(f"step {done_steps} of {of}")
                    if done_steps in partials:
                        preview = preview_of(order.pipe, latents, order.size)
                        if preview is not None:
                            client.event(
                                {
                                    "type": f"{event}.partial_image",
                                    "b64_json": encode_picture(preview, kind, quality),
                                    "partial_image_index": partials.index(done_steps),
                                    "created_at": int(time.time()),
                                    "size": f"{preview.width}x{preview.height}",
                                    **facts,
                                }
                            )

                picture = self._draw_one(order, number, report)
                facts["size"] = f"{picture.width}x{picture.height}"
                data.append(encode_picture(picture, kind, quality))
        usage = self._usage(body["prompt"], picture.size, order.count)
        if not streams:
            rows = [{"b64_json": image} for image in data]
            # the response must contain the actual value, which is unknown; events contain the
            # requested value
            if facts["quality"] == "auto":
                del facts["quality"]
            return {"created": int(time.time()), "data": rows, **facts, "usage": usage}
        for item in data:
            head = {"type": f"{event}.completed", "b64_json": item, "created_at": int(time.time())}
            client.event({**head, **facts, "usage": usage})
        return None

    def _draw_one(self, order: ImageOrder, number: int, report: ReportStep) -> Any:
        """Return one image. Raise `Refusal` if the model's own checker withholds it, or if memory runs out."""
        done_steps = 0

        def stepped(_pipe: Any, _index: int, _time: Any, step_values: dict[str, Any]) -> dict[str, Any]:
            nonlocal done_steps
            done_steps += 1
            report(done_steps, order.steps, step_values.get("latents"))
            return step_values

        options = (
            {"callback_on_step_end": stepped} if takes_argument(order.pipe, "callback_on_step_end") else {}
        )
        generator = torch.Generator("cpu").manual_seed(order.seed + number)
        try:
            output = order.pipe(**order.arguments, generator=generator, output_type="pil", **options)
        except ValueError as error:
            words = " ".join(str(error).split())[:300]
            raise Refusal(f"'{self._name}' cannot draw that: {words}", "unsupported_value") from error
        except (MemoryError, RuntimeError) as error:
            words = str(error).lower()
            if not (isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words):
                raise
            if self._placement.device.type == "cuda":
                torch.cuda.empty_cache()
            raise Refusal(
                "Not enough memory for an image of this size. Request a smaller one.",
                "out_of_memory",
                "size",
                status=503,
            ) from error
        safety_flags = getattr(output, "nsfw_content_detected", None)
        if safety_flags and any(safety_flags):
            raise Refusal(
                "The model's own safety checker withheld the image. Change the prompt, or try another seed.",
                "moderation_blocked",
                "prompt",
            )
        return output.images[0]

    def _usage(self, prompt: str, size: tuple[int, int], count: int) -> dict[str, Any]:
        """Return the token counts in OpenAI's format; each square of `PATCH_PIXELS` by `PATCH_PIXELS` pixels is a
        token.
        """
        tokenizer = getattr(next(pipe for pipe in self._pipes.values() if pipe), "tokenizer", None)
        prompt_tokens = len(tokenizer(prompt).input_ids) if tokenizer is not None else len(prompt.split())
        image_tokens = count * max(1, size[0] * size[1] // PATCH_PIXELS**2)
        return {
            "input_tokens": prompt_tokens,
            "input_tokens_details": {"text_tokens": prompt_tokens, "image_tokens": 0},
            "output_tokens": image_tokens,
            "total_tokens": prompt_tokens + image_tokens,
        }


def _moments(steps: int, count: int) -> tuple[int, ...]:
    """Return the ``count`` steps after which a preview is shown, never including the last step."""
    preview_steps = {round(steps * number / (count + 1)) for number in range(1, count + 1)}
    return tuple(sorted(step for step in preview_steps if 0 < step < steps))
