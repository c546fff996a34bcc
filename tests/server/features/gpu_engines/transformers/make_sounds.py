"""Creates tiny sound models with random weights; runs in the environment of `transformers`, as ``… OUT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz '"

SECONDS = 2
"""Window of the tiny Whisper, in seconds."""


def bytes_to_unicode() -> list[str]:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return sorted(alphabet)


def whisper(folder: Path) -> None:
    folder.mkdir()
    vocabulary = {letter: index for index, letter in enumerate(bytes_to_unicode())}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = [
        "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|de|>", "<|translate|>", "<|transcribe|>",
        "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
    ]  # fmt: skip
    tokenizer = WhisperTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        bos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    times = [f"<|{number * 0.02:.2f}|>" for number in range(SECONDS * 50 + 1)]
    tokenizer.add_tokens(times)
    ids = tokenizer.get_vocab()
    config = WhisperConfig(
        vocab_size=len(ids), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_source_positions=SECONDS * 50, max_target_positions=24, median_filter_width=3,
        pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    generation = model.generation_config
    generation._from_model_config = False
    generation.is_multilingual = True
    generation.lang_to_id = {f"<|{code}|>": ids[f"<|{code}|>"] for code in ("en", "zh", "de")}
    generation.task_to_id = {task: ids[f"<|{task}|>"] for task in ("translate", "transcribe")}
    generation.no_timestamps_token_id = ids["<|notimestamps|>"]
    generation.prev_sot_token_id = ids["<|startofprev|>"]
    generation.max_initial_timestamp_index = 20
    generation.max_length = 24
    generation.alignment_heads = [[0, 0], [0, 1]]
    generation.suppress_tokens = [ids[name] for name in special[1:-1]]
    generation.begin_suppress_tokens = [ids["<|endoftext|>"]]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=SECONDS).save_pretrained(folder)


def ctc(folder: Path) -> None:
    folder.mkdir()
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<unk>", "|", *"abcdefgh"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), bos_token=None, eos_token=None).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
            pad_token_id=0,
        )
    ).save_pretrained(folder)  # fmt: skip


def vits(folder: Path, speakers: int) -> None:
    folder.mkdir()
    vocabulary = {letter: index for index, letter in enumerate(["<pad>", *LETTERS, "<unk>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    VitsTokenizer(
        str(folder / "vocab.json"), pad_token="<pad>", unk_token="<unk>", phonemize=False, normalize=True
    ).save_pretrained(folder)
    VitsModel(
        VitsConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
            flow_size=16, spectrogram_bins=9, upsample_initial_channel=16, upsample_rates=[8, 8], num_speakers=speakers,
            upsample_kernel_sizes=[16, 16], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
            prior_encoder_num_flows=2, prior_encoder_num_wavenet_layers=1, posterior_encoder_num_wavenet_layers=1,
            duration_predictor_num_flows=2, depth_separable_num_layers=1, sampling_rate=16_000,
            speaker_embedding_size=8 if speakers > 1 else 0, use_stochastic_duration_prediction=False,
        )
    ).save_pretrained(folder)  # fmt: skip


def musicgen(folder: Path) -> None:
    words = ["<pad>", "</s>", "<unk>", "calm", "piano", "drums", "and", "a"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = MusicgenConfig(
        text_encoder=T5Config(
            vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
        ).to_dict(),
        audio_encoder=EncodecConfig(
            sampling_rate=16_000, num_filters=4, num_residual_layers=1, upsampling_ratios=[8, 8], hidden_size=16,
            codebook_size=16, codebook_dim=16, target_bandwidths=[2.0], num_lstm_layers=1,
        ).to_dict(),
        decoder=MusicgenDecoderConfig(
            vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, num_codebooks=2,
            max_position_embeddings=256, pad_token_id=16, bos_token_id=16,
        ).to_dict(),
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(config)
    model.generation_config.decoder_start_token_id = 16
    model.generation_config.pad_token_id = 16
    model.generation_config.bos_token_id = 16
    model.save_pretrained(folder)


def main() -> None:
    out = Path(sys.argv[1])
    torch.manual_seed(0)
    whisper(out / "whisper")
    ctc(out / "ctc")
    vits(out / "voice", 1)
    vits(out / "voices", 3)
    musicgen(out / "music")


main()
