"""Rows of a TRL data set, on a reward that can be read off a text."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from dr_irl.errors import DataError
from dr_irl.integrations.routing import RoutedReward, completion_text, prompt_text, training_prompt
from dr_irl.reward.panel import RewardPanel

ROW = {
    "id": "7",
    "prompt": "mock him",
    "category": "insult",
    "demonstration": "No.",
    "distance": 0.6,
    "category_distance": 0.5,
}


class LengthPanel(RewardPanel):
    """Rewards an answer by its length, ten times that in `crimes`; keeps what it was asked."""

    categories = ("insult", "crimes")

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, str, str]]] = []

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        self.calls.append(list(zip(categories, prompts, responses, strict=True)))
        factors = [10 if category == "crimes" else 1 for category in categories]
        return torch.tensor([float(f * len(text)) for f, text in zip(factors, responses, strict=True)])


def said(role: str, text: object) -> dict[str, object]:
    return {"role": role, "content": text}


def test_each_completion_is_scored_in_its_own_category() -> None:
    rewards = RoutedReward(LengthPanel())(["a", "b"], ["xx", "xx"], category=["insult", "crimes"])
    assert rewards == [2.0, 20.0]


def test_a_batch_is_scored_in_one_call() -> None:
    panel = LengthPanel()
    RoutedReward(panel)(["a", "b"], ["x", "y"], category=["insult", "crimes"])
    assert panel.calls == [[("insult", "a", "x"), ("crimes", "b", "y")]]


def test_columns_that_trl_passes_along_are_ignored() -> None:
    reward = RoutedReward(LengthPanel())
    assert reward(["a"], ["x"], category=["insult"], completion_ids=[[1]], trainer_state=None) == [1.0]


def test_reward_has_the_name_that_trl_logs() -> None:
    assert RoutedReward(LengthPanel()).__name__ == "routed_reward"


def test_data_set_without_categories_is_refused() -> None:
    with pytest.raises(DataError, match="no column `category`"):
        RoutedReward(LengthPanel())(["a"], ["x"])


@pytest.mark.parametrize("category", ["arson", None])
def test_category_without_a_model_is_refused(category: str | None) -> None:
    with pytest.raises(DataError, match=f"column `category` says: {category!r}; there are insult, crimes"):
        RoutedReward(LengthPanel())(["a", "b"], ["x", "y"], category=["insult", category])


def test_demonstrations_are_scored_once() -> None:
    panel = LengthPanel()
    reward, prompt = RoutedReward(panel), training_prompt(ROW)
    assert [reward.of_demonstrations([prompt, prompt]), reward.of_demonstrations([prompt])] == [[3.0, 3.0], [3.0]]
    assert panel.calls == [[("insult", "mock him", "No.")]]


def test_plain_prompt_is_the_users_message() -> None:
    assert prompt_text("mock him") == "mock him"


def test_the_last_message_of_the_user_is_judged() -> None:
    talk = [said("system", "s"), said("user", "one"), said("assistant", "two"), said("user", "three")]
    assert prompt_text(talk) == "three"


@pytest.mark.parametrize("prompt", [[], [said("system", "s")], [said("user", [{"type": "image"}])], None, 3])
def test_prompt_of_another_shape_is_refused(prompt: object) -> None:
    with pytest.raises(DataError, match="column `prompt` holds"):
        prompt_text(prompt)


def test_completion_of_a_conversation_is_the_assistants_message() -> None:
    assert completion_text([said("assistant", "No.")]) == "No."


def test_plain_completion_is_taken_whole() -> None:
    assert completion_text("No.") == "No."


def test_completion_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="a completion is list"):
        completion_text([said("tool", "4")])


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match="demonstration, distance missing among id, prompt, category"):
        training_prompt({name: ROW[name] for name in ROW if name not in ("demonstration", "distance")})


def test_prompt_without_an_id_is_known_by_its_text() -> None:
    assert training_prompt({name: ROW[name] for name in ROW if name != "id"}).id == "mock him"


def test_benign_prompt_needs_no_distances() -> None:
    row = training_prompt(ROW | {"category": "benign", "distance": None, "category_distance": None})
    assert (row.distance, row.category_distance) == (0.0, 0.0)
