"""Loads models and tokenizers, named as `resolve.py` says. Nothing else in the project reads weights.

Weights are safetensors only and no code of a model repository is ever run.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dr_irl.errors import ModelError
from dr_irl.language.attention import use_short_row_attention
from dr_irl.language.proved import route_of_loaded
from dr_irl.language.resolve import resolve_model
from dr_irl.language.route import set_route

_BROKEN = (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, SafetensorError)
"""What transformers and tokenizers raise on files that are missing, damaged or of another kind."""
_LOADING = Lock()  # transformers patches global state while it loads; two threads must not do so at once


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the left and has a chat template.

    Raises:
        ModelError: there is no such model, or it has no chat template.
    """
    folder = resolve_model(name, revision)
    with _LOADING, _explained(name, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise ModelError(f"model {name!r} has no chat template; name an instruct model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_causal_lm(
    name: str, revision: str | None = None, *, dtype: torch.dtype, device: str = "cpu"
) -> PreTrainedModel:
    """Load a frozen causal language model."""
    return _load(AutoModelForCausalLM, name, revision, dtype=dtype, device=device)


def load_reward_backbone(
    name: str, revision: str | None = None, *, depth: int, dtype: torch.dtype, device: str = "cpu"
) -> PreTrainedModel:
    """Load the lowest `depth` layers of a language model with one scalar output, frozen.

    Raises:
        ModelError: the model has fewer layers than `depth`.
    """
    folder = resolve_model(name, revision)
    with _explained(name, folder):
        layers = AutoConfig.from_pretrained(folder, trust_remote_code=False).num_hidden_layers
    if not 1 <= depth <= layers:
        raise ModelError(f"reward.depth = {depth}: {name!r} has {layers} layers; allowed is 1 to {layers}")
    model = _load(
        AutoModelForSequenceClassification,
        name,
        revision,
        dtype=dtype,
        device=device,
        num_labels=1,
        num_hidden_layers=depth,
    )
    # The head is new: it starts from a known value, and in float32, for it is trained.
    torch.nn.init.zeros_(model.score.float().weight)
    return model


def load_encoder(name: str, revision: str | None = None, *, device: str = "cpu") -> Any:
    """Load a `SentenceTransformer`."""
    from sentence_transformers import SentenceTransformer  # 3 s of imports that only some stages need

    folder = resolve_model(name, revision)
    _require_device(device)
    with _LOADING, _explained(name, folder):
        return SentenceTransformer(str(folder), device=device, trust_remote_code=False)


def _load(kind: Any, name: str, revision: str | None, *, dtype: torch.dtype, device: str, **kwargs: Any) -> Any:
    folder = resolve_model(name, revision)
    _require_device(device)
    with _LOADING, _explained(name, folder):
        model = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, low_cpu_mem_usage=True, **kwargs
        )
    use_short_row_attention(model)
    model.name_or_path = model.config._name_or_path = name  # adapters record it: the name, not a folder of this machine
    model = model.to(device).eval().requires_grad_(False)
    set_route(model, route_of_loaded(model, name, folder))
    return model


@contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    """Tell what is the matter with a model's files in one sentence; the libraries raise a dozen kinds of errors."""
    try:
        yield
    except _BROKEN as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"model {name!r} in {folder} cannot be loaded: {reason}; the folder must hold config.json, *.safetensors "
            "and the tokenizer's files, whole and of one model"
        ) from error


def _require_device(device: str) -> None:
    """Refuse a device that has no such name, or a CUDA device that is not there, before anything is loaded."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ModelError(f"device {device!r}: allowed are cpu, cuda and cuda:N")
    count = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
        raise ModelError(
            f"models.device = {device!r}: this machine has {count} CUDA devices that torch {torch.__version__} can "
            "use; "
            "set models.device to cpu or to a device that exists"
        )
