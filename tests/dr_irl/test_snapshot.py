"""A snapshot survives as bytes, and training goes on from it as if it had never stopped."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from dr_irl.errors import CorruptArtifactError, DataError
from dr_irl.snapshot import (
    NO_CHECKPOINTS,
    Snapshot,
    restore_training,
    trainable_by_name,
    training_snapshot,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = {
    dtype: torch.tensor([0.1, -0.0, math.inf, math.nan], dtype=dtype)
    for dtype in (torch.float32, torch.float64, torch.bfloat16)
}


class Training:
    """Two parameters, one of which may never have a gradient, on their way under AdamW."""

    def __init__(self, steps: int = 0, *, idle: bool = False, shape: tuple[int, ...] = (2, 3)) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parameters = {
            "a": Parameter(torch.randn(shape, generator=generator)),
            "b": Parameter(torch.randn(4, generator=generator)),
        }
        self.optimiser = torch.optim.AdamW(list(self.parameters.values()), lr=0.1)
        for step in range(steps):
            self.step(step, idle=idle)

    def step(self, step: int, *, idle: bool = False) -> None:
        self.optimiser.zero_grad()
        for name, parameter in self.parameters.items():
            if name == "a" or not idle:
                (parameter * (step + 1)).sin().sum().backward()
        self.optimiser.step()

    def snapshot(self, step: int, state: dict[str, Any] | None = None) -> Snapshot:
        return training_snapshot(step, self.parameters, self.optimiser, state or {})

    def restore(self, snapshot: Snapshot) -> None:
        restore_training(snapshot, self.parameters, self.optimiser)


def same(one: Training, two: Training) -> bool:
    return all(torch.equal(p, two.parameters[name]) for name, p in one.parameters.items())


def through_bytes(snapshot: Snapshot) -> Snapshot:
    return Snapshot.from_bytes(snapshot.to_bytes())


@given(st.integers(min_value=0), st.dictionaries(st.text(), JSON, max_size=3))
def test_step_and_state_survive_as_bytes(step: int, state: dict[str, Any]) -> None:
    found = through_bytes(Snapshot(step, {}, state))
    assert (found.step, repr(found.state)) == (step, repr(state))  # repr: NaN is not equal to itself


@pytest.mark.parametrize("number", [0.1 + 0.2, 5e-324, -0.0, math.inf, -math.inf, math.nan])
def test_every_float_of_the_state_survives_exactly(number: float) -> None:
    assert through_bytes(Snapshot(1, {}, {"loss": number})).state["loss"].hex() == number.hex()


@pytest.mark.parametrize("tensor", NUMBERS.values(), ids=map(str, NUMBERS))
def test_tensors_survive_bit_for_bit(tensor: Tensor) -> None:
    found = through_bytes(Snapshot(1, {"t": tensor}, {})).tensors["t"]
    assert (found.dtype, found.view(torch.uint8).tolist()) == (tensor.dtype, tensor.view(torch.uint8).tolist())


@pytest.mark.parametrize("cut", [0, 4, 40, -1])
def test_bytes_that_are_cut_off_are_refused(cut: int) -> None:
    data = Training(1).snapshot(1).to_bytes()[:cut]
    with pytest.raises(CorruptArtifactError, match=f"{len(data)} bytes are not a checkpoint .* remove it"):
        Snapshot.from_bytes(data)


def test_other_safetensors_are_refused() -> None:
    data = Snapshot(1, {}, {}).to_bytes().replace(b'"training"', b'"anything"')
    with pytest.raises(CorruptArtifactError, match="KeyError\\('training'\\)"):
        Snapshot.from_bytes(data)


def test_snapshot_stays_as_it_was_while_training_goes_on() -> None:
    training, losses = Training(1), [0.5]
    snapshot = training.snapshot(1, {"losses": losses})
    before = snapshot.to_bytes()
    training.step(1)
    losses.append(0.4)
    assert snapshot.to_bytes() == before


def test_restoring_leaves_the_snapshot_as_it_was() -> None:
    snapshot = Training(1).snapshot(1)
    before = snapshot.to_bytes()
    training = Training()
    training.restore(snapshot)
    training.step(1)
    assert snapshot.to_bytes() == before


def test_parameters_are_restored_in_place() -> None:
    training = Training()
    place = training.parameters["a"].data_ptr()
    training.restore(Training(2).snapshot(2))
    assert (same(training, Training(2)), training.parameters["a"].data_ptr()) == (True, place)


def test_next_step_is_that_of_training_which_never_stopped() -> None:
    whole, resumed = Training(3), Training()
    resumed.restore(through_bytes(Training(2).snapshot(2)))
    resumed.step(2)
    assert same(resumed, whole)


@pytest.mark.parametrize("part", ["exp_avg", "exp_avg_sq", "step"])
def test_all_that_the_optimiser_knows_is_restored(part: str) -> None:
    known, training = Training(2), Training()
    training.restore(known.snapshot(2))
    found = [of.optimiser.state[of.parameters["a"]][part] for of in (training, known)]
    assert torch.equal(*found)


def test_parameter_without_a_gradient_may_stay_unknown_to_the_optimiser() -> None:
    whole, resumed = Training(3, idle=True), Training()
    resumed.restore(Training(2, idle=True).snapshot(2))
    resumed.step(2, idle=True)
    assert same(resumed, whole)


def test_learning_rate_stays_that_of_the_optimiser() -> None:
    training = Training()
    training.optimiser.param_groups[0]["lr"] = 0.7
    training.restore(Training(1).snapshot(1))
    assert training.optimiser.param_groups[0]["lr"] == 0.7


def test_other_shapes_are_refused() -> None:
    words = r"step 2 is of another model: parameter/a is float32 \(2, 3\) instead of float32 \(3, 3\);.* remove it"
    with pytest.raises(DataError, match=words):
        Training(shape=(3, 3)).restore(Training(2).snapshot(2))


def test_other_types_are_refused() -> None:
    training = Training()
    training.parameters["b"].data = training.parameters["b"].data.double()
    with pytest.raises(DataError, match=r"parameter/b is float32 \(4,\) instead of float64 \(4,\)"):
        training.restore(Snapshot(1, {f"parameter/{n}": p.detach() for n, p in Training().parameters.items()}, {}))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("parameter/a", r"parameter/a is absent instead of float32 \(2, 3\)"),
        ("exp_avg/a", r"exp_avg/a is absent instead of float32 \(2, 3\)"),
        ("step/a", r"step/a is absent instead of float32 \(\)"),
    ],
)
def test_what_is_missing_is_named(name: str, words: str) -> None:
    whole = Training(1).snapshot(1)
    without = Snapshot(1, {key: tensor for key, tensor in whole.tensors.items() if key != name}, {})
    with pytest.raises(DataError, match=words):
        Training().restore(without)


def test_what_is_too_much_is_named() -> None:
    whole = Training(1).snapshot(1)
    with pytest.raises(DataError, match=r"parameter/c is float32 \(1,\) instead of absent"):
        Training().restore(Snapshot(1, {**whole.tensors, "parameter/c": torch.zeros(1)}, {}))


def test_refused_snapshot_changes_nothing() -> None:
    training = Training(shape=(3, 3))
    with pytest.raises(DataError):
        training.restore(Training(2).snapshot(2))
    assert same(training, Training(shape=(3, 3)))


def test_only_what_learns_is_named_in_the_order_of_names() -> None:
    model = torch.nn.ModuleDict({"z": torch.nn.Linear(1, 1), "a": torch.nn.Linear(1, 1)})
    model["z"].bias.requires_grad_(False)
    assert list(trainable_by_name(model)) == ["a.bias", "a.weight", "z.weight"]


def test_nothing_is_captured_where_nothing_is_kept() -> None:
    NO_CHECKPOINTS.after_step(1, lambda: pytest.fail("captured"))
    assert NO_CHECKPOINTS.load() is None
