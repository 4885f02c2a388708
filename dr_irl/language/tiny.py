"""Tiny random models with the interfaces of real ones, made on the spot: what tests run on."""

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "[UNK]"]


def write_language_model(folder: Path) -> None:
    """Write a two-layer Llama of 16 dimensions with random weights and a byte-level tokenizer.

    Its embedding is its head, so that greedily it says its last special token again and again: empty answers.
    """
    _write_llama(folder, speaks=False)


def write_babbling_model(folder: Path) -> None:
    """Write the same with a head of its own that knows ASCII letters alone: every greedy answer is made of them."""
    _write_llama(folder, speaks=True)


def _write_llama(folder: Path, *, speaks: bool) -> None:
    tokenizer = _byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=not speaks,
        pad_token_id=_SPECIAL.index("<|pad|>"),
        eos_token_id=_SPECIAL.index("<|end|>"),
        bos_token_id=_SPECIAL.index("<|end|>"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    if speaks:
        letters = torch.tensor(tokenizer.convert_tokens_to_ids(list(string.ascii_letters)))
        silent = torch.ones(len(tokenizer), dtype=torch.bool).index_fill(0, letters, False)
        model.lm_head.weight.data[silent] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_encoder(folder: Path) -> None:
    """Write a one-layer sentence encoder of 16 dimensions with random weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer  # pyright: ignore[reportMissingImports]

    tokenizer = _byte_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        pad_token_id=_SPECIAL.index("<|pad|>"),
    )
    transformer_folder = folder / "transformer"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(transformer_folder)
    tokenizer.save_pretrained(transformer_folder)
    transformer = Transformer(str(transformer_folder), max_seq_length=256)
    SentenceTransformer(modules=[transformer, Pooling(16)]).save(str(folder))


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", unk_token="[UNK]"
    )
    fast.add_special_tokens({"additional_special_tokens": _SPECIAL[2:5]})
    fast.chat_template = _CHAT_TEMPLATE
    return fast
