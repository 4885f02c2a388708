"""Which route was found for which model: looked for once per model, versions and number format, and kept on disk."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import peft
import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from dr_irl.artifacts.cache import cache_folder
from dr_irl.json_text import parse_object
from dr_irl.language.proof.check import find_route
from dr_irl.language.route import Decoding, Route, Scoring

logger = logging.getLogger(__name__)

_FOUND: dict[str, Route] = {}


def route_of_loaded(model: PreTrainedModel, name: str, identity: str) -> Route:
    """Return the route of a model that was just loaded; says so in the log where it is not the fastest.

    Args:
        model: a language model, or a reward model's backbone.
        name: what it was asked for as.
        identity: of its files.

    Raises:
        ModelError: no way of ours gives its numbers.
    """
    key = _key(identity, model.config, scores=hasattr(model, "score"), dtype=model.dtype, device=model.device.type)
    if key not in _FOUND:
        _FOUND[key] = _kept(_note(key), lambda: find_route(model, name))
        if _FOUND[key].reason:
            found = _FOUND[key]
            logger.warning(
                "model %s takes a slower way: scores by %r, samples by %r; faster ones do not give the numbers of its "
                "own forward pass (%s)",
                *(name, found.scoring.value, found.decoding.value, found.reason),
            )
    return _FOUND[key]


def is_known(identity: str, config: PreTrainedConfig, *, scores: bool, dtype: torch.dtype, device: str) -> bool:
    """Tell, before it is loaded, whether a model's route was found earlier.

    Args:
        identity: of its files.
        config: as it will be loaded.
        scores: whether it is a reward model's backbone.
        dtype: its number format.
        device: `cpu`, `cuda` or `cuda:N`.
    """
    key = _key(identity, config, scores=scores, dtype=dtype, device=device.partition(":")[0])
    return key in _FOUND or _note(key).exists()


def _key(identity: str, config: PreTrainedConfig, *, scores: bool, dtype: torch.dtype, device: str) -> str:
    """Name everything that a route can depend on: the model, what runs it, and our own code."""
    versions = (transformers.__version__, torch.__version__, peft.__version__)
    kind = (config.get_text_config().num_hidden_layers, scores, str(dtype), device)
    ours = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return hashlib.sha256(json.dumps([identity, versions, kind, ours]).encode()).hexdigest()[:32]


def _note(key: str) -> Path:
    return cache_folder() / "routes" / f"{key}.json"


def _kept(path: Path, find: Callable[[], Route]) -> Route:
    """Read a route from disk, or find it and write it there."""
    try:
        known = parse_object(path.read_bytes())
        return Route(Scoring(known["scoring"]), Decoding(known["decoding"]), known["reason"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError) as error:
        logger.info("%s cannot be read and is made anew: %s", path, error)
    route = find()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            json.dump(asdict(route), file)
        os.replace(file.name, path)
    except OSError as error:  # it costs the next process seconds, nothing more
        logger.info("%s cannot be written: %s", path, error)
    return route
