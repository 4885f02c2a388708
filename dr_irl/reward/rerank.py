"""Best of N: of several sampled answers, the one that the reward model of the prompt's category likes best."""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dr_irl.language.sampling import Sampler
from dr_irl.reward.panel import RewardPanel


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of several."""

    index: int
    reward: float
    lowest: float
    """The reward of the worst one."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """The best answer, and what it took to find it."""

    text: str
    choice: Choice
    cut: bool
    """True where only the beginning of the best answer was scored."""
    sampling_seconds: float
    scoring_seconds: float


def best_of(rewards: Float[Tensor, " answers"]) -> Choice:
    """Choose the answer with the highest reward; of equals, the first."""
    index = int(rewards.argmax())
    return Choice(index, rewards[index].item(), rewards.min().item())


class Reranker:
    """Samples several answers to a prompt and keeps the best."""

    def __init__(self, sampler: Sampler, panel: RewardPanel, *, count: int) -> None:
        """Sample `count` answers with `sampler`, score them with `panel`."""
        self._sampler, self._panel, self._count = sampler, panel, count

    def answer(self, prompt: str, category: str, generator: torch.Generator) -> Reranked:
        """Answer one prompt.

        Raises:
            DataError: the category has no reward model, or the prompt leaves no room for an answer.
        """
        start = time.perf_counter()
        answers = [s.answer for s in self._sampler.sample([prompt], per_prompt=self._count, generator=generator)[0]]
        sampled = time.perf_counter()
        choice = best_of(self._panel.score([category] * self._count, [prompt] * self._count, answers))
        scored = time.perf_counter()
        best = answers[choice.index]
        return Reranked(best, choice, self._panel.cut([prompt], [best])[0], sampled - start, scored - sampled)
