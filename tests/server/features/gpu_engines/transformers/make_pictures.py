"""Creates tiny image models with random weights; runs in the environment of the engine `transformers`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel

WIDTH = 8


def tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=77
    )


def text_encoder(count: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=count, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1,
            num_attention_heads=1, projection_dim=WIDTH, bos_token_id=count - 2, eos_token_id=count - 1,
        )
    )  # fmt: skip


def vae(channels: int, **more: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4), latent_channels=channels, norm_num_groups=2, sample_size=32, **more,
    )  # fmt: skip


def diffusion(out: Path) -> None:
    words = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(4, 8), norm_num_groups=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=2,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae(4), text_encoder=text_encoder(len(words)), tokenizer=words, unet=unet,
        scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(out)  # fmt: skip


def flux(out: Path) -> None:
    words = tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    encoder = T5EncoderModel(
        T5Config(vocab_size=len(words), d_model=WIDTH, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(1, shift_factor=0.1, scaling_factor=0.4),
        text_encoder=text_encoder(len(words)), tokenizer=words, text_encoder_2=encoder, tokenizer_2=words,
        transformer=transformer,
    ).save_pretrained(out)  # fmt: skip


def main(out: Path) -> None:
    torch.manual_seed(7)
    diffusion(out / "diffusion")
    flux(out / "flux")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
