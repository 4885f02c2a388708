"""Loads models and tokenizers, named as `resolve.py` says. Nothing else in the project reads weights.

Weights are safetensors only and no code of a model repository is ever run.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, cast

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
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from dr_irl.errors import ModelError
from dr_irl.json_text import parse_object
from dr_irl.language.anatomy import body_name, context_length, named_projections
from dr_irl.language.attention import use_short_row_attention
from dr_irl.language.chat import padding_id, prompt_ids, response_ids, turn_end
from dr_irl.language.encoder_files import require_plain_encoder
from dr_irl.language.fixed_template import fix_template
from dr_irl.language.own_head import remember_whole_head
from dr_irl.language.proof.proved import is_known, route_of_loaded
from dr_irl.language.rendering import Rendering
from dr_irl.language.resolve import BUNDLED_PREFIX, model_identity, resolve_model
from dr_irl.language.route import set_route
from dr_irl.language.split import layer_count

_BROKEN = (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, SafetensorError)
"""What transformers and tokenizers raise on files that are missing, damaged or of another kind."""
_AS_IT_IS = Rendering()
_SCORE = "score.weight"
"""The head of a reward model, which no language model has."""
_LOADING = Lock()  # transformers patches global state while it loads; two threads must not do so at once


def load_tokenizer(name: str, revision: str | None = None, rendering: Rendering = _AS_IT_IS) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the left, and has a chat template that always says the same.

    Args:
        name: of the model.
        revision: of the model.
        rendering: what its chat template is given.

    Raises:
        ModelError: there is no such model, or it has no chat template that shows a prompt, or one that cannot be given
            this, or nothing that ends a turn.
    """
    folder = _model_folder(name, revision)
    with _LOADING, _explained(name, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"model {name!r} has no chat template; name an instruct model, or put a file chat_template.jinja into a "
            "copy of its folder"
        )
    fix_template(tokenizer, rendering)
    end = turn_end(tokenizer)
    if end is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no end token, and its chat template closes no turn with a special token; "
            "set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = end
    tokenizer.padding_side = "left"
    require_rows(tokenizer, config.get_text_config().vocab_size, name)
    return tokenizer


def require_rows(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """See that the model has an embedding for every token that can come up.

    A special token that no prompt of ours has, such as that of an image, needs none.

    Args:
        tokenizer: with a pad token.
        rows: embeddings of the model.
        name: of the model.

    Raises:
        ModelError: it has not.
    """
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = {*prompt_ids(tokenizer, ["a"])[0], *response_ids(tokenizer, ["a"], limit=rows)[0], padding_id(tokenizer)}
    beyond = [id for id in tokenizer.get_vocab().values() if id >= rows and (id not in special or id in used)]
    if beyond:
        raise ModelError(
            f"the tokenizer of {name!r} has {len(tokenizer)} tokens, and {len(beyond)} that can come up, to number "
            f"{max(beyond)}, are beyond the {rows} embeddings of the model; name a model whose tokenizer is its own, "
            "or resize its embeddings (resize_token_embeddings) and save both"
        )


def _model_folder(name: str, revision: str | None) -> Path:
    """Find a model's folder.

    Raises:
        ModelError: there is none, or what is there is an adapter.
    """
    folder = resolve_model(name, revision)
    config = folder / "adapter_config.json"
    if config.is_file() and not (folder / "config.json").exists():
        with _explained(name, folder):
            base = parse_object(config.read_bytes()).get("base_model_name_or_path")
        raise ModelError(
            f"{name!r} is an adapter, not a model; name its base model{f', {base},' if base else ''} as models.policy, "
            "and the adapter as models.champion, with models.start = champion to train it on"
        )
    return folder


def load_causal_lm(
    name: str, revision: str | None = None, *, dtype: torch.dtype, device: str = "cpu"
) -> PreTrainedModel:
    """Load a frozen causal language model."""
    model = _load(AutoModelForCausalLM, name, revision, dtype=dtype, device=device)
    remember_whole_head(model)
    return model


def context_of(name: str, revision: str | None = None) -> int | None:
    """Return the most tokens that a model takes, from its configuration alone; None: nothing bounds them."""
    folder = resolve_model(name, revision)
    with _LOADING, _explained(name, folder):
        return context_length(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def load_reward_backbone(
    name: str, revision: str | None = None, *, depth: int, dtype: torch.dtype, device: str = "cpu"
) -> PreTrainedModel:
    """Load the lowest `depth` layers of a language model with one scalar output, frozen.

    Raises:
        ModelError: the model has fewer layers than `depth`.
    """
    folder = _model_folder(name, revision)
    with _explained(name, folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    layers = config.get_text_config().num_hidden_layers
    if not 1 <= depth <= layers:
        raise ModelError(f"reward.depth = {depth}: {name!r} has {layers} layers; allowed is 1 to {layers}")
    model = _load(
        _classifier(config),
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


def look_at_policy(
    name: str,
    revision: str | None = None,
    *,
    adapted: tuple[int, Sequence[str]],
    rewarding: tuple[int, int, Sequence[str]],
    dtype: torch.dtype,
    device: str = "cpu",
) -> None:
    """See from its files whether a model can be aligned; it is loaded only where its route is not known yet.

    Args:
        name: of the model.
        revision: of the model.
        adapted: of the policy: topmost layers that carry LoRA, and the projections that do.
        rewarding: of the reward models: layers of the backbone, topmost of these that carry LoRA, projections.
        dtype: number format of the frozen weights.
        device: where it runs.

    Raises:
        ModelError: there is no such model, it has no such projections, or no way of ours gives its numbers.
    """
    folder = _model_folder(name, revision)
    with _LOADING, _explained(name, folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ModelError(f"model {name!r} ({config.model_type}) is no causal language model; name one that is")
        with torch.device("meta"):
            outline = AutoModelForCausalLM.from_config(config)
    depth, topmost, modules = rewarding
    _require_projections(outline, layer_count(outline), *adapted)
    _require_projections(outline, min(depth, layer_count(outline)), topmost, modules)
    known = partial(is_known, _identity(name, folder), dtype=dtype, device=device)
    if not known(config, scores=False):
        load_causal_lm(name, revision, dtype=dtype, device=device)
    config.get_text_config().num_hidden_layers = depth
    if not known(config, scores=True):
        load_reward_backbone(name, revision, depth=depth, dtype=dtype, device=device)


def _require_projections(outline: PreTrainedModel, depth: int, topmost: int, names: Sequence[str]) -> None:
    named_projections(outline, names, range(max(0, depth - topmost), depth))


def _classifier(config: Any) -> Any:
    """Return the family's class with a score, or, where its own is none of the usual kind, one of that kind.

    Raises:
        ModelError: the model is no causal language model.
    """
    own = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if isinstance(own, type) and issubclass(own, GenericForSequenceClassification):
        return AutoModelForSequenceClassification
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"a {config.model_type} model is no causal language model; name one as models.policy")
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(config)
    language_model = cast(type[PreTrainedModel], type(outline))
    family = next(base for base in language_model.__bases__ if issubclass(base, PreTrainedModel))
    # A family with parts for pictures as well says so in both; a model with a score has the text part alone.
    parts = {"base_model_prefix": body_name(outline), "config_class": language_model.config_class}
    name = language_model.__name__.replace("ForCausalLM", "") + "ForSequenceClassification"
    return type(name, (GenericForSequenceClassification, family), parts)


def load_encoder(name: str, revision: str | None = None, *, device: str = "cpu") -> Any:
    """Load a `SentenceTransformer`.

    Raises:
        ModelError: it cannot be loaded, or not without pickle or code of its own.
    """
    from sentence_transformers import SentenceTransformer  # 3 s of imports that only some stages need

    folder = resolve_model(name, revision)
    _require_device(device)
    require_plain_encoder(name, folder)
    with _LOADING, _explained(name, folder):
        return SentenceTransformer(
            str(folder), device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )


def _load(kind: Any, name: str, revision: str | None, *, dtype: torch.dtype, device: str, **kwargs: Any) -> Any:
    folder = _model_folder(name, revision)
    _require_device(device)
    with _LOADING, _explained(name, folder):
        model, found = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            low_cpu_mem_usage=True,
            output_loading_info=True,
            **kwargs,
        )
    if missing := sorted({*found["missing_keys"], *found["mismatched_keys"]} - {_SCORE}):
        raise ModelError(
            f"model {name!r} in {folder} cannot be loaded: its files lack {len(missing)} of the weights that such a "
            f"{model.config.model_type} model has, {missing[0]} among them; the folder must hold all its *.safetensors"
        )
    use_short_row_attention(model)
    model.name_or_path = model.config._name_or_path = name  # adapters record it: the name, not a folder of this machine
    model = model.to(device).eval().requires_grad_(False)
    set_route(model, route_of_loaded(model, name, _identity(name, folder)))
    return model


def _identity(name: str, folder: Path) -> str:
    """Name the files of a model, which were resolved already."""
    return model_identity(name if name.startswith(BUNDLED_PREFIX) else str(folder))


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
