"""What a row of a TRL data set means to the method: its prompt, its reward, its demonstration's reward."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError
from dr_irl.language.thoughts import answer_of
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.reward.panel import RewardPanel

COLUMNS = ("prompt", "category", "demonstration", "distance", "category_distance")
"""What dynamic scaling reads of each row, and `id` where there is one."""


class RoutedReward:
    """A TRL reward function: each completion is scored by the reward model of its prompt's own category.

    The data set says in its column `category` which that is. Of a conversation the last message of the user is what
    the answer is judged against; a prompt in plain text is that message itself.
    """

    __name__ = "routed_reward"  # what TRL calls the reward in its logs

    def __init__(self, panel: RewardPanel) -> None:
        """Score with the models of `panel`."""
        self._panel = panel
        self._demonstrations: dict[tuple[str, str, str], float] = {}

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        category: Sequence[Any] | None = None,
        **columns: Any,
    ) -> list[float]:
        """Return the calibrated reward of each completion, its thoughts left out.

        Raises:
            DataError: there is no column `category`, a category has no reward model, or a text has another shape.
        """
        del columns
        if category is None:
            raise DataError("the data set has no column `category`, which names the reward model of each prompt")
        self._require_models(category)
        texts = [prompt_text(prompt) for prompt in prompts]
        return self._panel.score(list(category), texts, [answer_of(completion_text(c)) for c in completions]).tolist()

    def of_demonstrations(self, prompts: Sequence[TrainingPrompt]) -> list[float]:
        """Return the reward of each demonstration, which never changes: scored once, and NaN for benign prompts."""
        self._require_models([prompt.category for prompt in prompts])
        keys = [(prompt.category, prompt.text, prompt.demonstration) for prompt in prompts]
        if new := [key for key in dict.fromkeys(keys) if key[0] != BENIGN and key not in self._demonstrations]:
            scores = self._panel.score(*(list(column) for column in zip(*new, strict=True)))
            self._demonstrations |= dict(zip(new, scores.tolist(), strict=True))
        return [self._demonstrations.get(key, math.nan) for key in keys]

    def _require_models(self, categories: Sequence[Any]) -> None:
        if unknown := sorted({repr(name) for name in categories if name not in self._panel.categories}):
            raise DataError(
                f"no reward model for what column `category` says: {', '.join(unknown)}; "
                f"there are {', '.join(self._panel.categories)}"
            )


def training_prompt(row: Mapping[str, Any]) -> TrainingPrompt:
    """Read a row; without a column `id` a prompt is known by its text. Distances of benign prompts are not read.

    Raises:
        DataError: a column is missing, or the prompt has another shape.
    """
    require_columns(list(row))
    text, benign = prompt_text(row["prompt"]), row["category"] == BENIGN
    return TrainingPrompt(
        id=str(row.get("id", text)),
        text=text,
        category=row["category"],
        demonstration=row["demonstration"],
        distance=0.0 if benign else float(row["distance"]),
        category_distance=0.0 if benign else float(row["category_distance"]),
    )


def require_columns(names: Sequence[str]) -> None:
    """Refuse rows that lack a column of `COLUMNS`."""
    if missing := [name for name in COLUMNS if name not in names]:
        raise DataError(
            f"dynamic scaling needs the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing among "
            f"{', '.join(names)}; add them, and leave `remove_unused_columns` off"
        )


def prompt_text(prompt: Any) -> str:
    """Return what the user said last: the whole of a plain text, the last user message of a conversation."""
    said = [prompt] if isinstance(prompt, str) else _contents(prompt, "user")
    if not said or not isinstance(said[-1], str):
        raise DataError(
            f"column `prompt` holds {_shown(prompt)}; a text or a list of messages with a text of the user is allowed"
        )
    return said[-1]


def completion_text(completion: Any) -> str:
    """Return the answer: the whole of a plain text, the last assistant message of a conversation."""
    said = [completion] if isinstance(completion, str) else _contents(completion, "assistant")
    if not said or not isinstance(said[-1], str):
        raise DataError(
            f"a completion is {_shown(completion)}; a text or a list of messages with one of the assistant is allowed"
        )
    return said[-1]


def _contents(messages: Any, role: str) -> list[Any]:
    if not isinstance(messages, list):
        return []
    return [m.get("content") for m in messages if isinstance(m, Mapping) and m.get("role") == role]


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {repr(value)[:80]}"
