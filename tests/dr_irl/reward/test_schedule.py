"""Which rows are seen at which step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.reward.schedule import Step, schedule_steps


@dataclass(frozen=True)
class Case:
    """Some of the rows there are, how long each one is, and how they are trained on."""

    rows: list[int]
    lengths: list[int]
    rounds: int
    epochs: int
    per_step: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.rows) / self.per_step)

    def steps(self, seed: int = 0) -> list[Step]:
        return schedule_steps(
            self.rows,
            self.lengths,
            rounds=self.rounds,
            epochs=self.epochs,
            per_step=self.per_step,
            generator=torch.Generator().manual_seed(seed),
        )

    def by_epoch(self, seed: int = 0) -> list[list[Step]]:
        """Cut the schedule where it says that an epoch ends."""
        found: list[list[Step]] = [[]]
        for step in self.steps(seed):
            found[-1].append(step)
            if step.ends_epoch:
                found.append([])
        return found[:-1]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = draw(
        st.integers(1, 40).flatmap(lambda count: st.lists(st.integers(1, 9), min_size=count, max_size=count))
    )
    rows = draw(st.permutations(range(len(lengths))))[: draw(st.integers(1, len(lengths)))]
    return Case(rows, lengths, *draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))))


def different_lengths(rows: int, epochs: int, per_step: int) -> Case:
    return Case(list(range(rows)), list(range(rows)), rounds=1, epochs=epochs, per_step=per_step)


def row_sets(epoch: Sequence[Step]) -> set[frozenset[int]]:
    return {frozenset(step.rows) for step in epoch}


@given(cases())
def test_every_training_row_is_seen_once_in_every_epoch(case: Case) -> None:
    for epoch in case.by_epoch():
        assert sorted(row for step in epoch for row in step.rows) == sorted(case.rows)


@given(cases())
def test_only_the_last_step_of_every_epoch_ends_it(case: Case) -> None:
    ends = [position for position, step in enumerate(case.steps(), start=1) if step.ends_epoch]
    assert ends == [case.steps_per_epoch * epoch for epoch in range(1, case.rounds * case.epochs + 1)]


@given(cases())
def test_number_of_steps(case: Case) -> None:
    assert len(case.steps()) == case.rounds * case.epochs * case.steps_per_epoch


@given(cases())
def test_at_most_one_step_of_an_epoch_has_fewer_rows(case: Case) -> None:
    for epoch in case.by_epoch():
        fewer = [len(step.rows) for step in epoch if len(step.rows) != case.per_step]
        assert fewer == ([rest] if (rest := len(case.rows) % case.per_step) else [])


@given(cases())
def test_rounds_come_one_after_the_other(case: Case) -> None:
    rounds = [step.round for step in case.steps()]
    assert rounds == [number for number in range(case.rounds) for _ in range(case.epochs * case.steps_per_epoch)]


@given(case=cases(), seed=st.integers(0, 9))
def test_same_seed_draws_the_same_schedule_whatever_the_global_state(case: Case, seed: int) -> None:
    torch.manual_seed(1)
    once = case.steps(seed)
    torch.manual_seed(2)
    assert case.steps(seed) == once


@given(case=cases())
def test_rows_of_a_step_are_alike_in_length(case: Case) -> None:
    """Of few enough rows, none lies between two of another step in length."""
    few = Case(case.rows[: 4 * case.per_step], case.lengths, case.rounds, case.epochs, case.per_step)
    for epoch in few.by_epoch():
        bounds = sorted((min(own), max(own)) for step in epoch if (own := [few.lengths[row] for row in step.rows]))
        assert all(high <= low for (_, high), (low, _) in zip(bounds, bounds[1:], strict=False))


def test_short_and_long_rows_are_kept_apart_among_many() -> None:
    # 64 rows, every other one long: sorting in windows mixes them in one step per window of four at most
    case = Case(list(range(64)), [1, 100] * 32, rounds=1, epochs=5, per_step=4)
    for epoch in case.by_epoch():
        assert sum(len({case.lengths[row] for row in step.rows}) > 1 for step in epoch) <= 4


def test_epochs_put_other_rows_together() -> None:
    one, two = different_lengths(40, epochs=2, per_step=2).by_epoch()
    assert row_sets(one) != row_sets(two)


def test_epochs_of_few_rows_come_in_another_order() -> None:
    # eight rows fit one window: their steps are the same four in every epoch, and only the order can differ
    epochs = different_lengths(8, epochs=10, per_step=2).by_epoch()
    assert len({tuple(tuple(step.rows) for step in epoch) for epoch in epochs}) > 1


def test_seeds_draw_different_schedules() -> None:
    case = different_lengths(40, epochs=1, per_step=2)
    assert case.steps(0) != case.steps(1)


def test_no_rows_make_no_steps() -> None:
    assert Case([], [], rounds=2, epochs=2, per_step=2).steps() == []
