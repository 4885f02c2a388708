"""Where training stands, as bytes: from there a run that was killed goes on as if it never had been.

No generator is kept: the loops draw everything before their first step, or derive a generator from the step.
"""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import Parameter

from dr_irl.errors import CorruptArtifactError, DataError
from dr_irl.json_text import parse_object

_MOMENTS = ("exp_avg", "exp_avg_sq")
_KNOWN = ("step", *_MOMENTS)
_BEST = "best"
_METADATA = "training"
_NAMED_PROBLEMS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All that the steps done so far have changed."""

    step: int
    """Steps done."""
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """What the loop keeps besides tensors, as JSON values."""

    def to_bytes(self) -> bytes:
        """Write a safetensors file with the rest in its metadata."""
        # Floats are written as their shortest exact text. NaN and infinity, which a logged number may be, are written
        # by these names: not standard JSON, but what `from_bytes` reads. Several keys would come in random order.
        text = json.dumps({"step": self.step, "state": dict(self.state)}, allow_nan=True)
        return save(dict(self.tensors), metadata={_METADATA: text})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Snapshot":
        """Read what `to_bytes` wrote.

        Raises:
            CorruptArtifactError: the bytes are something else, or not all of them.
        """
        try:
            tensors = load(data)
            # safetensors gives the metadata of files only: a length in 8 bytes, then the header, which is JSON.
            header = parse_object(data[8 : 8 + int.from_bytes(data[:8], "little")])
            rest = parse_object(header["__metadata__"][_METADATA])
            return cls(step=rest["step"], tensors=tensors, state=rest["state"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CorruptArtifactError(
                f"{len(data)} bytes are not a checkpoint ({error!r}); remove it to train from the first step"
            ) from error


@runtime_checkable
class Checkpoints(Protocol):
    """Keeps the snapshots of one training loop, and decides which steps are worth one."""

    def load(self) -> Snapshot | None:
        """Return the latest snapshot, or None where training starts."""
        ...

    def after_step(self, step: int, capture: Callable[[], Snapshot]) -> None:
        """Hear that `step` steps are done, before anybody else does; `capture` copies where training stands."""
        ...

    def after_failure(self, capture: Callable[[], Snapshot], batch: Mapping[str, Any]) -> str:
        """Keep where training stood before the step that failed, and what that step was given.

        Returns:
            Where that is kept, as the end of a sentence for people.
        """
        ...


class NoCheckpoints:
    """Keeps nothing: training always starts from its first step."""

    def load(self) -> Snapshot | None:
        """Return None."""
        return None

    def after_step(self, step: int, capture: Callable[[], Snapshot]) -> None:
        """Do nothing."""
        del step, capture

    def after_failure(self, capture: Callable[[], Snapshot], batch: Mapping[str, Any]) -> str:
        """Keep nothing."""
        del capture, batch
        return "nothing was kept of the batch"


NO_CHECKPOINTS: Final = NoCheckpoints()


def trainable_by_name(model: torch.nn.Module) -> dict[str, Parameter]:
    """Return the parameters that learn, in the order of their names."""
    return {name: parameter for name, parameter in sorted(model.named_parameters()) if parameter.requires_grad}


def training_snapshot(
    step: int,
    parameters: Mapping[str, Parameter],
    optimiser: torch.optim.AdamW,
    state: Mapping[str, Any],
    best: Mapping[str, Tensor] | None = None,
) -> Snapshot:
    """Copy the parameters and what the optimiser knows of each.

    Args:
        step: steps done.
        parameters: all that learn.
        optimiser: of these parameters.
        state: JSON values to keep with them.
        best: values of the parameters at an earlier step, which early stopping may go back to.
    """
    tensors: dict[str, Tensor] = {_key(_BEST, name): value for name, value in (best or {}).items()}
    for name, parameter in parameters.items():
        known = optimiser.state.get(parameter, {})
        tensors |= {_key("parameter", name): parameter} | {_key(part, name): known[part] for part in known}
    copies = {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}
    return Snapshot(step=step, tensors=copies, state=copy.deepcopy(dict(state)))


@torch.no_grad()
def restore_training(snapshot: Snapshot, parameters: Mapping[str, Parameter], optimiser: torch.optim.AdamW) -> None:
    """Set the parameters and the optimiser, both modified in place, to what `training_snapshot` copied, bit for bit.

    Raises:
        DataError: the snapshot has other names, shapes or types than the parameters.
    """
    _check_fit(snapshot, parameters)
    for name, parameter in parameters.items():
        parameter.copy_(snapshot.tensors[_key("parameter", name)])
    names = {parameter: name for name, parameter in parameters.items()}
    places = enumerate(parameter for group in optimiser.param_groups for parameter in group["params"])
    known = {
        place: {part: snapshot.tensors[_key(part, names[parameter])].clone() for part in _KNOWN}
        for place, parameter in places
        if _key("step", names[parameter]) in snapshot.tensors
    }
    # The optimiser itself knows which of its state belongs on the parameter's device and which does not.
    optimiser.load_state_dict(optimiser.state_dict() | {"state": known})


def best_parameters(snapshot: Snapshot) -> dict[str, Tensor]:
    """Return the parameters of an earlier step that were kept as the best so far; empty where none were."""
    prefix = _key(_BEST, "")
    return {
        key.removeprefix(prefix): value.clone() for key, value in snapshot.tensors.items() if key.startswith(prefix)
    }


def _check_fit(snapshot: Snapshot, parameters: Mapping[str, Parameter]) -> None:
    best = _key(_BEST, "")
    found = {key: _layout(tensor) for key, tensor in snapshot.tensors.items() if not key.startswith(best)}
    wanted = {_key("parameter", name): _layout(parameter) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        # A parameter that never had a gradient is unknown to the optimiser, in all parts.
        if any(_key(part, name) in found for part in _KNOWN):
            wanted |= {_key(part, name): _layout(parameter) for part in _MOMENTS} | {_key("step", name): "float32 ()"}
    wrong = [key for key in wanted | found if found.get(key) != wanted.get(key)]
    if not wrong:
        return
    named = [f"{k} is {found.get(k, 'absent')} instead of {wanted.get(k, 'absent')}" for k in wrong[:_NAMED_PROBLEMS]]
    others = f", and {len(wrong) - len(named)} more" if len(wrong) > len(named) else ""
    raise DataError(
        f"the checkpoint of step {snapshot.step} is of another model: {'; '.join(named)}{others}; "
        "remove it to train from the first step"
    )


def _layout(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _key(part: str, name: str) -> str:
    return f"{part}/{name}"
