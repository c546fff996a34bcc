"""Inspects a diffusers pipeline: the arguments that it accepts, and the image sizes that it draws."""

from __future__ import annotations

import inspect
from typing import Any

from .images import fit_size


def sibling_pipeline(auto: Any, pipe: Any) -> Any:
    """Return a pipeline for another kind of task from the same parts, or ``None`` if diffusers has no such pipeline."""
    try:
        sibling = auto.from_pipe(pipe)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    sibling.set_progress_bar_config(disable=True)
    return sibling


def takes_argument(pipe: Any, name: str) -> bool:
    """Return whether the pipeline's call has the argument ``name``."""
    return name in inspect.signature(pipe.__call__).parameters


def is_first_argument(pipe: Any, name: str) -> bool:
    """Return whether the argument ``name`` is the first argument of the pipeline's call."""
    return name == next(iter(inspect.signature(pipe.__call__).parameters))


def only_inpaints(pipe: Any) -> bool:
    """Return whether the pipeline's network requires a mask with every image."""
    unet, vae = getattr(pipe, "unet", None), getattr(pipe, "vae", None)
    return unet is not None and vae is not None and unet.config.in_channels > 2 * vae.config.latent_channels


def size_step(pipe: Any) -> int:
    """Return the number of pixels of which width and height must be multiples."""
    processor = getattr(pipe, "image_processor", None)
    scale = processor.config.vae_scale_factor if processor is not None else 8
    patch = getattr(pipe, "patch_size", 1)
    return int(scale) * (patch if isinstance(patch, int) else 1)


def trained_size(pipe: Any, limit: int) -> tuple[int, int] | None:
    """Return the size for which the model was trained, if it is known."""
    side = getattr(pipe, "default_sample_size", None)
    if side is None and getattr(pipe, "unet", None) is not None:
        side = pipe.unet.config.sample_size
    if isinstance(side, int):
        side = (side, side)
    if side is None or len(side) != 2:
        return None
    scale = getattr(pipe, "vae_scale_factor", 8)
    return fit_size(int(side[1] * scale), int(side[0] * scale), size_step(pipe), limit)
