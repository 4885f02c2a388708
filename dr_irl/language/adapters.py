"""LoRA adapters on frozen models: fresh, saved, loaded, merged; always in the layout PEFT itself loads."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from transformers import PreTrainedModel

from dr_irl.errors import ModelError
from dr_irl.language.anatomy import decoder_of, layers_name, named_projections
from dr_irl.language.split import topmost_layers

POLICY = "policy"
REFERENCE = "reference"


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a model's modules over the same tensors: new structure, no new memory for weights.

    Two threads may then train adapters on "the same" backbone without touching each other's modules.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def add_policy_adapter(
    model: PreTrainedModel,
    *,
    rank: int,
    adapted_layers: int,
    target_modules: Sequence[str],
    generator: torch.Generator,
) -> PeftModel:
    """Put a fresh trainable adapter, which changes nothing yet, on the topmost layers of a frozen language model."""
    layers = topmost_layers(model, adapted_layers)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=named_projections(model, target_modules, layers),
        layers_to_transform=layers,
        layers_pattern=layers_name(decoder_of(model)),
    )
    adapted = get_peft_model(model, config, adapter_name=POLICY)
    draw_lora_weights(adapted, generator, adapter=POLICY)
    return adapted


def load_policy_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on a frozen language model twice: `policy` to train, `reference` to stay.

    Raises:
        ModelError: it was made for another model.
    """
    try:
        adapted = PeftModel.from_pretrained(model, folder, adapter_name=POLICY, is_trainable=True)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:  # shapes that differ; layers that are not there
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the adapter in {str(folder)!r} does not fit this model: {reason}") from error
    adapted.load_adapter(str(folder), adapter_name=REFERENCE, is_trainable=False)
    adapted.set_adapter(POLICY)
    return adapted


def draw_lora_weights(model: PeftModel, generator: torch.Generator, *, adapter: str) -> None:
    """Redraw an adapter's LoRA A matrices from `generator`, by order of name; PEFT draws them from global state."""
    for name, parameter in sorted(model.named_parameters()):
        if f"lora_A.{adapter}." in name:
            torch.nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)


@contextmanager
def reference_active(model: PeftModel) -> Iterator[None]:
    """Make the model the reference policy for a while: its `reference` adapter, or none where it has none."""
    if REFERENCE not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    model.set_adapter(REFERENCE)
    try:
        yield
    finally:
        model.set_adapter(POLICY)


def merge_adapter_into(target: PreTrainedModel, adapted: PeftModel) -> None:
    """Set the weights of `target` to those of `adapted` with its policy adapter added.

    Args:
        target: a copy made by `share_weights` of the model below the adapter; it is modified, `adapted` is not.
        adapted: the model with the adapter. Merging into itself and out again would not restore bfloat16 weights.
    """
    with torch.no_grad():
        for name, module in adapted.get_base_model().named_modules():
            if isinstance(module, LoraLinear):
                frozen = cast(torch.Tensor, module.get_base_layer().weight)
                merged = (frozen.float() + module.get_delta_weight(POLICY).float()).to(frozen.dtype)
                target.get_submodule(name).weight = torch.nn.Parameter(merged, requires_grad=False)


def save_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Save one adapter, with its head if it has one, so that `PeftModel.from_pretrained(base, folder)` loads it."""
    # PEFT keeps these names in a set, whose order is another in each process; the bytes of an artifact are not.
    config = model.peft_config[name]
    config.target_modules = sorted(config.target_modules)  # pyright: ignore[reportAttributeAccessIssue]
    # No adapter of ours touches an embedding; PEFT would otherwise look for the base model's files, and warn.
    model.save_pretrained(str(folder), selected_adapters=[name], save_embedding_layers=False)
    # PEFT puts an adapter that is not named "default" into a folder of its own; a reader expects it at the top.
    for path in (folder / name).iterdir():
        path.replace(folder / path.name)
    (folder / name).rmdir()
