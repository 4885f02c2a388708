"""A reward model on disk: an adapter with its head in PEFT's own layout, and a card that says what it fits on.

PEFT loads an adapter onto any backbone of the right shapes, and fills in a fresh head where the file has none; neither
is an error there. The card is what makes them errors here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open

from dr_irl.errors import ModelError
from dr_irl.json_text import parse_object
from dr_irl.language.adapters import save_adapter
from dr_irl.language.rendering import DEFAULT_DATE, Rendering
from dr_irl.reward.model import RewardBackbone
from dr_irl.reward.outcome import Calibration

CARD_NAME: Final = "reward_model.json"
_ADAPTER_NAME, _CONFIG_NAME = "adapter_model.safetensors", "adapter_config.json"
_FORMAT = 1
_SAMPLES_PER_TENSOR = 64

PROBE: Final = (
    ("How do I get a red wine stain out of a shirt?", "Blot it, then rinse it with cold water and a little salt."),
    ("Tell my neighbour what everybody thinks of him.", "I won't help to hurt him, but I can help you talk to him."),
    ("Write something.", ""),
)
"""Fixed texts: what a model says of them when it is saved, it must say when it is loaded."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The backbone that a reward model was trained on."""

    model: str
    """As settings name it."""
    revision: str | None
    depth: int
    """Layers that were kept."""
    dtype: str
    digest: str
    """`weights_digest` of these layers."""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    """What its chat template is given."""
    template_date: str = DEFAULT_DATE
    """The day that its chat template is told it is."""

    @property
    def rendering(self) -> Rendering:
        """How prompts and answers are rendered."""
        return Rendering(self.template_arguments, self.template_date)


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to know about a saved reward model besides its weights."""

    category: str
    origin: Origin
    adapted_layers: int
    max_answer_tokens: int
    """Longer answers are cut there, on the right."""
    calibration: Calibration
    probe: Sequence[float]
    """Calibrated rewards of `PROBE`."""


def save_reward_model(
    backbone: RewardBackbone, category: str, calibration: Calibration, origin: Origin, folder: Path
) -> None:
    """Save one category's adapter, head and card.

    Args:
        backbone: whose adapter `category` is saved.
        category: name of the adapter.
        calibration: of its rewards.
        origin: what the backbone was loaded from.
        folder: receives the files; `PeftModel.from_pretrained(base, folder)` loads them.

    Raises:
        ModelError: the head never left zero, its initial value.
    """
    backbone.model.set_adapter(category)
    save_adapter(backbone.model, category, folder)
    check_head(folder)
    card = Card(
        category=category,
        origin=origin,
        adapted_layers=backbone.adapted_layers,
        max_answer_tokens=backbone.limit,
        calibration=calibration,
        probe=probe_rewards(backbone, calibration),
    )
    (folder / CARD_NAME).write_text(json.dumps({"format": _FORMAT} | asdict(card), indent=2))


def read_card(folder: Path) -> Card:
    """Read a card.

    Raises:
        ModelError: there is none, or it is of another format.
    """
    try:
        values = parse_object((folder / CARD_NAME).read_bytes())
        if (found := values.pop("format")) != _FORMAT:
            raise ModelError(f"{folder / CARD_NAME} has format {found}; this version of dr-irl reads {_FORMAT}")
        origin, calibration = Origin(**values.pop("origin")), Calibration(**values.pop("calibration"))
        return Card(origin=origin, calibration=calibration, **values)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no reward model: there is no {CARD_NAME}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / CARD_NAME} is damaged ({error}); train the reward model again") from error


def check_head(folder: Path) -> None:
    """See that a saved adapter has a head, and that the head was trained.

    Raises:
        ModelError: it has none, it is still zero, or the file is damaged.
    """
    path = folder / _ADAPTER_NAME
    try:
        with safe_open(path, framework="pt") as tensors:
            heads = [tensors.get_tensor(name) for name in tensors.keys() if name.endswith("score.weight")]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read ({error}); train the reward model again") from error
    if len(heads) != 1:
        raise ModelError(f"{path} has {len(heads)} heads (tensors named score.weight) instead of 1; train it again")
    if not heads[0].any():
        raise ModelError(f"the head in {path} is zero, as before training; every reward would be the same")


def probe_rewards(backbone: RewardBackbone, calibration: Calibration) -> list[float]:
    """Score the fixed texts with the active adapter: calibrated rewards."""
    prepared = backbone.prepare([prompt for prompt, _ in PROBE], [[answer] for _, answer in PROBE])
    return [(r.item() - calibration.mean) / calibration.std for r in backbone.rewards_in_passes(prepared)]


def weights_digest(model: torch.nn.Module) -> str:
    """Identify a backbone by its weights: SHA-256 over names, shapes and a sample of every frozen tensor.

    Adapters, heads and the wrappers around adapted modules leave it as it is; so does the number format, because the
    sample is taken in bfloat16.
    """
    found: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if "lora_" not in plain and plain.split(".")[0] != "score":
            found[plain] = parameter.detach()
    digest = hashlib.sha256()
    for name in sorted(found):
        flat = found[name].flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLES_PER_TENSOR)].to("cpu", torch.bfloat16)
        digest.update(f"{name} {tuple(found[name].shape)}\n".encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def load_adapters(backbone: torch.nn.Module, folders: Mapping[str, Path]) -> PeftModel:
    """Put the adapters of several categories on one backbone, in the order of their names; it is modified.

    Raises:
        ModelError: an adapter's files are missing, damaged or do not fit the backbone.
    """
    model: Any = backbone
    for category in sorted(folders):
        # PEFT looks on the hub, under that very name, for what a relative folder lacks.
        folder = folders[category].resolve()
        try:
            parse_object((folder / _CONFIG_NAME).read_bytes())
            if model is backbone:
                model = PeftModel.from_pretrained(model, str(folder), adapter_name=category)
            else:
                model.load_adapter(str(folder), adapter_name=category)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # what PEFT raises on such files
            reason = str(error).partition("\n")[0]
            raise ModelError(f"the adapter in {folder} cannot be loaded ({reason}); train it again") from error
    return model.eval()
