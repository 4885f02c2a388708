"""Best of N, with a sampler and a panel whose answers are known."""

from collections.abc import Sequence

import torch

from dr_irl.language.sampling import Sample
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.rerank import Choice, Reranker, best_of


class Numbers:
    """A sampler that answers with numbers drawn from its generator."""

    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        drawn = torch.randint(1000, (len(prompts), per_prompt), generator=generator)
        return [[Sample((1,), str(number), False) for number in row] for row in drawn.tolist()]


class Distance(RewardPanel):
    """A panel that likes numbers near 500 where the category is `insult`, and far from it elsewhere."""

    def __init__(self) -> None: ...

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> torch.Tensor:
        signs = [-1.0 if category == "insult" else 1.0 for category in categories]
        return torch.tensor([s * abs(int(text) - 500) for s, text in zip(signs, responses, strict=True)])

    def cut(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        return [len(text) > 2 for text in responses]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(count: int) -> list[int]:
    return torch.randint(1000, (1, count), generator=generator())[0].tolist()


def test_the_highest_reward_is_chosen_with_the_range_of_all() -> None:
    assert best_of(torch.tensor([0.5, 2.0, -1.0])) == Choice(index=1, reward=2.0, lowest=-1.0)


def test_of_equal_rewards_the_first_is_chosen() -> None:
    assert best_of(torch.tensor([1.0, 3.0, 3.0])).index == 1


def test_one_answer_is_its_own_range() -> None:
    assert best_of(torch.tensor([-2.0])) == Choice(index=0, reward=-2.0, lowest=-2.0)


def test_the_answer_is_what_the_model_of_its_category_likes_best() -> None:
    reranker = Reranker(Numbers(), Distance(), count=8)
    nearest = min(drawn(8), key=lambda number: abs(number - 500))
    farthest = max(drawn(8), key=lambda number: abs(number - 500))
    assert reranker.answer("p", "insult", generator()).text == str(nearest)
    assert reranker.answer("p", "benign", generator()).text == str(farthest)


def test_whether_the_answer_was_scored_whole_is_told() -> None:
    made = Reranker(Numbers(), Distance(), count=8).answer("p", "insult", generator())
    assert made.cut == (len(made.text) > 2)
