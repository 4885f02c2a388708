"""The openings of a set of answers as a distribution over the next token."""

import pytest
import torch

from dr_irl.language.logprobs import soft_cross_entropy
from dr_irl.language.openings import Openings, certain

ANSWERS = [[1, 2, 9], [1, 2, 8], [1, 3], [4]]


def test_targets_are_the_shares_of_what_follows_each_beginning() -> None:
    targets = Openings(ANSWERS, depth=2).targets([1, 2, 9])
    assert targets == [{1: 0.75, 4: 0.25}, {2: pytest.approx(2 / 3), 3: pytest.approx(1 / 3)}, {9: 1.0}]


def test_an_answer_shorter_than_the_depth_has_a_target_per_token() -> None:
    assert Openings(ANSWERS, depth=3).targets([4]) == [{1: 0.75, 4: 0.25}]


def test_depth_zero_leaves_every_token_certain() -> None:
    assert Openings(ANSWERS, depth=0).targets([1, 3]) == certain([1, 3]) == [{1: 1.0}, {3: 1.0}]


def test_an_answer_that_was_not_counted_is_refused() -> None:
    with pytest.raises(KeyError):
        Openings(ANSWERS, depth=2).targets([5, 6])


def test_soft_cross_entropy_is_the_mean_of_the_answers_own() -> None:
    # one distribution per beginning, the same for every answer that has it, as a model's is
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 10, generator=generator).log_softmax(dim=-1)
    openings = Openings(ANSWERS, depth=2)
    soft = soft_cross_entropy(torch.stack([first, second]), openings.targets([1, 2]))
    own_first = torch.stack([-first[answer[0]] for answer in ANSWERS]).mean()
    own_second = torch.stack([-second[answer[1]] for answer in ANSWERS if answer[0] == 1]).mean()
    torch.testing.assert_close(soft, torch.stack([own_first, own_second]))


def test_soft_cross_entropy_to_certain_targets_is_the_negative_log_likelihood() -> None:
    logprobs = torch.randn(3, 7, generator=torch.Generator().manual_seed(1)).log_softmax(dim=-1)
    expected = torch.nn.functional.nll_loss(logprobs, torch.tensor([5, 0, 6]), reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logprobs, certain([5, 0, 6])), expected)
