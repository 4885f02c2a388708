"""Log-probabilities and entropies of answers against torch.distributions."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence

from dr_irl.language.logprobs import AnswerLogprobs, answer_logprobs, symmetric_kl
from dr_irl.language.packing import Bundle, pack

PACKED = pack([Bundle([5, 6], [[1, 2], [3]]), Bundle([7], [[4]])], pad=0)
STATES = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
HEAD = nn.Linear(8, 9, bias=False).requires_grad_(False)
HEAD.weight.copy_(torch.randn(9, 8, generator=torch.Generator().manual_seed(1)))
# the state before each answer token: the prompt's last, then the answer's own tokens
SOURCES = [[(0, 1), (0, 2)], [(0, 1)], [(1, 0)]]
TOKENS = [[1, 2], [3], [4]]


def scored(temperature: float) -> AnswerLogprobs:
    return answer_logprobs(STATES, HEAD, PACKED, temperature=temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_logprobs_are_those_of_the_distribution(temperature: float) -> None:
    for row, sources in enumerate(SOURCES):
        for column, (r, p) in enumerate(sources):
            expected = Categorical(logits=HEAD(STATES[r, p]) / temperature).log_prob(torch.tensor(TOKENS[row][column]))
            torch.testing.assert_close(scored(temperature).logprobs[row, column], expected)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropies_are_those_of_the_distribution(temperature: float) -> None:
    for row, sources in enumerate(SOURCES):
        for column, (r, p) in enumerate(sources):
            expected = Categorical(logits=HEAD(STATES[r, p]) / temperature).entropy()
            torch.testing.assert_close(scored(temperature).entropy[row, column], expected)


def test_padding_scores_zero() -> None:
    assert (scored(1.0).logprobs[1:, 1].tolist(), scored(1.0).entropy[1:, 1].tolist()) == ([0, 0], [0, 0])


def test_entropy_carries_no_gradient() -> None:
    found = answer_logprobs(STATES.clone().requires_grad_(), HEAD, PACKED)
    assert (found.logprobs.requires_grad, found.entropy.requires_grad) == (True, False)


@pytest.mark.parametrize("count", [5, 300])
@pytest.mark.parametrize("kind", ["frozen", "trained", "wrapped"])
def test_the_gradient_is_that_of_torchs_distribution(kind: str, count: int) -> None:
    """Few answer tokens and many; the head that the fast way is for, and others."""
    packed = pack([Bundle([5], [[token % 9 for token in range(count)]])], pad=0)
    states = torch.randn(1, count + 1, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    head = copy.deepcopy(HEAD).requires_grad_(kind == "trained")
    found = answer_logprobs(states, nn.Sequential(head) if kind == "wrapped" else head, packed, temperature=0.7)
    weights = torch.randn(1, count, generator=torch.Generator().manual_seed(1))
    expected = Categorical(logits=HEAD(states[:, :count]) / 0.7).log_prob(packed.answer_ids)
    [ours] = torch.autograd.grad((found.logprobs * weights).sum(), states)
    [theirs] = torch.autograd.grad((expected * weights).sum(), states)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_scores_are_float32_even_of_bfloat16_states() -> None:
    head = nn.Linear(8, 9, bias=False, dtype=torch.bfloat16)
    assert answer_logprobs(STATES.bfloat16(), head, PACKED).logprobs.dtype == torch.float32


def test_symmetric_kl_is_the_mean_of_both_divergences() -> None:
    one, two = (torch.randn(3, 7, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=-1) for seed in (0, 1))
    p, q = Categorical(logits=one), Categorical(logits=two)
    torch.testing.assert_close(symmetric_kl(one, two), (kl_divergence(p, q) + kl_divergence(q, p)) / 2)


def test_equal_distributions_have_no_divergence() -> None:
    one = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    assert symmetric_kl(one, one).tolist() == [0.0, 0.0]
