"""Previews of an unfinished image, decoded from the latents of a step."""

from __future__ import annotations

from typing import Any

import torch


def preview_of(pipe: Any, latents: Any, size: tuple[int, int]) -> Any:
    """Return the unfinished image, or ``None`` for a model with another kind of decoder. ``size`` is (width,
    height).
    """
    vae: Any = getattr(pipe, "vae", None)
    if latents is None or type(vae).__name__ not in ("AutoencoderKL", "AutoencoderTiny"):
        return None
    if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
        return None  # decoded in 16 bits, the image would be black
    latents = latents[:1]
    if latents.ndim == 3:  # patches in a row
        if not hasattr(pipe, "_unpack_latents"):
            return None
        latents = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    latents = latents / vae.config.scaling_factor + shift
    decoded_image = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    return pipe.image_processor.postprocess(decoded_image, output_type="pil")[0]
