"""One seed, a generator per purpose."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.seeding import derive_seed, numpy_generator, torch_generator


def test_the_derived_seed_is_the_same_on_every_machine() -> None:
    # the first 63 bits of sha256("7\x1fgrpo\x1f3"), computed once by `sha256sum`
    assert derive_seed(7, "grpo", 3) == 1858700528979284640


@given(st.integers(min_value=0), st.lists(st.text() | st.integers(), max_size=3))
def test_a_derived_seed_fits_every_generator(seed: int, purpose: list[str | int]) -> None:
    assert 0 <= derive_seed(seed, *purpose) < 2**63


@pytest.mark.parametrize("other", [(8, "grpo", 3), (7, "grpo", 4), (7, "sample", 3), (7, "grpo"), (7, "grp", "o", 3)])
def test_another_seed_or_purpose_gives_another_stream(other: tuple[int, str, int]) -> None:
    assert derive_seed(*other) != derive_seed(7, "grpo", 3)


def test_torch_generators_of_one_purpose_agree() -> None:
    first, second = (torch.rand(4, generator=torch_generator(1, "a")) for _ in range(2))
    assert torch.equal(first, second)


def test_numpy_generators_of_one_purpose_agree() -> None:
    assert numpy_generator(1, "a").integers(10**9) == numpy_generator(1, "a").integers(10**9)


def test_no_generator_touches_the_global_state() -> None:
    before = torch.random.get_rng_state()
    torch.rand(4, generator=torch_generator(1, "a"))
    assert torch.equal(torch.random.get_rng_state(), before)
