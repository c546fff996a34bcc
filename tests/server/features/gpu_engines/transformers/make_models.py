"""Creates tiny models with random weights; runs in the environment of the engine `transformers`, as ``… OUT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXT = (
    """Tell me about the sea and the sky. What is the weather in Paris or Berlin? It will be sunny and bright.
A word of the long story: once upon a time there was a light house on the hill, red and green. Be brief. rain
The harbour is closed, ships are in the harbour, bread is baked here. And now tell me more about it! user assistant
system name arguments get_weather set_light city color count true false function answered Functions Parameters"""
    * 3
)

CHAT = (
    "{% for message in messages %}{% if message['role'] not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('no such role') }}{% endif %}"
    "{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)

SEES = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}assistant:"
)

SPECIAL = ["<s>", "</s>", "<pad>"]
IMAGE = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]


def byte_level(special: list[str], template: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=640, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = template
    return fast


def word_piece(*more: str) -> PreTrainedTokenizerFast:
    words = sorted(
        {word for word in TEXT.lower().replace(".", " ").replace(",", " ").split() if word.isalpha()}
    )
    vocabulary = {
        word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *more, *words])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64, **({"mask_token": "[MASK]"} if "[MASK]" in more else {}),
    )  # fmt: skip


def bert(size: int, **more: object) -> BertConfig:
    return BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, **more,
    )  # fmt: skip


def embedding(folder: Path, pooling: str = "mean") -> None:
    tokenizer = word_piece()
    model = BertModel(bert(len(tokenizer)))
    for parameter in model.parameters():
        parameter.data.mul_(8)  # makes the outputs of different texts differ visibly
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    modes = {
        "mean": "pooling_mode_mean_tokens",
        "cls": "pooling_mode_cls_token",
        "last": "pooling_mode_lasttoken",
    }
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, **{key: mode == pooling for mode, key in modes.items()}})
    )


def reranker(folder: Path) -> None:
    tokenizer = word_piece()
    model = BertForSequenceClassification(bert(len(tokenizer), num_labels=1))
    for parameter in model.parameters():
        parameter.data.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


MARKED = ("[MASK]", "[unused0]", "[unused1]", ".")
QUERY_LENGTH, DOCUMENT_LENGTH = 8, 12


def late(folder: Path, layout: str) -> None:
    """Write a model like ColBERT, in ColBERT's layout or in PyLate's; both layouts have the same weights."""
    torch.manual_seed(3)
    tokenizer = word_piece(*MARKED)
    model = BertModel(bert(len(tokenizer)))
    linear = torch.nn.Linear(32, 8, bias=False)
    for parameter in model.parameters():
        parameter.data.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if layout == "colbert":
        states = {f"bert.{name}": value for name, value in model.state_dict().items()}
        save_file(
            {**states, "linear.weight": linear.weight.data}, folder / "model.safetensors", {"format": "pt"}
        )
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
        metadata = {
            "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "mask_punctuation": True,
            "query_maxlen": QUERY_LENGTH, "doc_maxlen": DOCUMENT_LENGTH, "attend_to_mask_tokens": False,
        }  # fmt: skip
        (folder / "artifact.metadata").write_text(json.dumps(metadata))
        return
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": linear.weight.data}, folder / "1_Dense" / "model.safetensors")
    dense = {
        "in_features": 32,
        "out_features": 8,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    kinds = ("sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")
    modules = [
        {"idx": i, "name": str(i), "path": "1_Dense" if i else "", "type": kind}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    metadata = {
        "query_prefix": "[unused0]", "document_prefix": "[unused1]", "query_length": QUERY_LENGTH,
        "document_length": DOCUMENT_LENGTH, "skiplist_words": ["."], "attend_to_expansion_tokens": False,
    }  # fmt: skip
    (folder / "config_sentence_transformers.json").write_text(json.dumps(metadata))


def sparse(folder: Path) -> None:
    torch.manual_seed(4)
    tokenizer = word_piece("[MASK]")
    model = BertForMaskedLM(bert(len(tokenizer)))
    for parameter in model.parameters():
        parameter.data.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = ("MLMTransformer", "SpladePooling")
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "1_SpladePooling" if i else "",
            "type": f"sentence_transformers.x.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_SpladePooling").mkdir()
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps({"pooling_strategy": "max"}))


def llama(width: int, **more: object) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=width, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, pad_token_id=2, **more,
    )  # fmt: skip


def chat(folder: Path) -> None:
    tokenizer = byte_level(SPECIAL, CHAT)
    model = LlamaForCausalLM(llama(len(tokenizer)))
    lean(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for seed, name in ((1, "adapter"), (2, "other")):
        torch.manual_seed(seed)
        adapter(model, folder.parent / name)


def lean(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Make the model prefer words to single letters, avoid commas (after which an object continues), and never end."""
    vocabulary = tokenizer.get_vocab()
    head = model.lm_head.weight.data
    head[[index for token, index in vocabulary.items() if token.startswith("Ġ") and len(token) > 2]] *= 8
    # A dimension that is positive after every token turns its weights into a bias.
    model.model.embed_tokens.weight.data[:, 0] = 1.0
    head[:, 0] = 0.0
    head[[index for token, index in vocabulary.items() if "," in token], 0] = -5.0
    head[:3, 0] = -20.0


def adapter(model: LlamaForCausalLM, folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    wrapped.save_pretrained(folder)
    wrapped.unload()


def vision(folder: Path) -> None:
    tokenizer = byte_level([*SPECIAL, *IMAGE], SEES)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    config = Idefics3Config(
        text_config=llama(len(tokenizer)).to_dict(),
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )  # fmt: skip
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.suppress_tokens = list(range(len(SPECIAL) + len(IMAGE)))
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=SEES)
    processor.save_pretrained(folder)


TEXTS = ["the sea is bright", "bread is baked here", "ships in the harbour once upon a time"]

SPANS = [(0, 5), (5, 20), (20, 37), (0, 37)]
"""Spans of the last text: "ships", " in the harbour", " once upon a time", and the whole text."""


def expected(out: Path) -> dict[str, object]:
    """Return what plain transformers computes from `TEXTS`, one at a time: vectors by pooling, vectors of `SPANS`, and
    scores for the question "ships".
    """
    reference: dict[str, object] = {}
    for pooling in ("mean", "cls", "last"):
        folder = out / "embedding-mean"  # all models get these weights
        tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
        rows = []
        for text in TEXTS:
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            vector = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
            rows.append((vector / vector.norm()).tolist())
        reference[pooling] = rows
    folder = out / "embedding-mean"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    read = tokenizer(TEXTS[2], return_tensors="pt", return_offsets_mapping=True)
    states = model(
        **{key: value for key, value in read.items() if key != "offset_mapping"}
    ).last_hidden_state[0]
    ends = read["offset_mapping"][0, :, 1].tolist()
    late = [states[[i for i, end in enumerate(ends) if first < end <= last]].mean(0) for first, last in SPANS]
    reference["late"] = [(vector / vector.norm()).tolist() for vector in late]
    folder = out / "reranker"
    tokenizer, judge = (
        AutoTokenizer.from_pretrained(folder),
        BertForSequenceClassification.from_pretrained(folder),
    )
    pairs = [tokenizer("ships", text, return_tensors="pt") for text in TEXTS]
    reference["scores"] = [torch.sigmoid(judge.eval()(**pair).logits)[0, 0].item() for pair in pairs]
    reference["late_scores"] = late_scores(out / "late-colbert", out / "late-pylate")
    folder = out / "sparse"
    tokenizer, head = AutoTokenizer.from_pretrained(folder), BertForMaskedLM.from_pretrained(folder).eval()
    weights = [
        torch.log1p(torch.relu(head(**tokenizer(text, return_tensors="pt")).logits[0])).amax(0)
        for text in ("ships", *TEXTS)
    ]
    for weight in weights:
        weight[tokenizer.all_special_ids] = 0
    self_product = weights[0] @ weights[0]
    products = [weights[0] @ document_weight for document_weight in weights[1:]]
    reference["sparse_scores"] = [(product / (product + self_product)).item() for product in products]
    return reference


def late_scores(folder: Path, weights: Path) -> list[float]:
    """Return the scores as ColBERT computes them, one text at a time, without padding."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(weights).eval()
    linear = load_file(folder / "model.safetensors")["linear.weight"]

    def vectors(ids: list[int], shown: int) -> torch.Tensor:
        mask = torch.tensor([[1] * shown + [0] * (len(ids) - shown)])
        states = model(torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
        return torch.nn.functional.normalize(states @ linear.T, dim=-1)

    def ids(text: str, marker: str, most: int) -> list[int]:
        first, *inner_ids, last = tokenizer(text)["input_ids"]
        return [first, tokenizer.convert_tokens_to_ids(marker), *inner_ids[: most - 3], last]

    question_ids = ids("ships", "[unused0]", QUERY_LENGTH)
    masked = [*question_ids, *[tokenizer.mask_token_id] * (QUERY_LENGTH - len(question_ids))]
    question, scores = vectors(masked, len(question_ids)), []
    for text in TEXTS:
        row = ids(text, "[unused1]", DOCUMENT_LENGTH)
        positions = [i for i, token in enumerate(row) if token != tokenizer.convert_tokens_to_ids(".")]
        near = question @ vectors(row, len(row))[positions].T
        scores.append(near.amax(1).mean().clamp(0, 1).item())
    return scores


def main() -> None:
    out = Path(sys.argv[1])
    torch.manual_seed(0)
    chat(out / "chat")
    for pooling in ("mean", "cls"):
        torch.manual_seed(0)
        embedding(out / f"embedding-{pooling}", pooling)
    reranker(out / "reranker")
    for layout in ("colbert", "pylate"):
        late(out / f"late-{layout}", layout)
    sparse(out / "sparse")
    vision(out / "vision")
    with torch.inference_mode():
        (out / "expected.json").write_text(json.dumps({"texts": TEXTS, **expected(out)}))


main()
