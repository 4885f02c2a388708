import math
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from dr_irl.categories import BENIGN, HARM_CATEGORIES, SINGLE
from dr_irl.records import Answer, ScalingRecord, StepRecord
from dr_irl.report.data import ReportData
from dr_irl.report.write import render_report
from dr_irl.results.statistics import mean_interval, rate
from dr_irl.results.summaries import BalanceSummary, Comparison, LearningPoint, ModelSummary, Rate, RewardSummary
from dr_irl.reward.hard_negatives import KINDS
from dr_irl.reward.readings import RULES

MODELS = ("unaligned", "warm start", "aligned")
STEP_NAMES = ("reward", "refusal", "loss")


def make_answer(
    suite: str, number: int, category: str, text: str = "An answer.", refused: bool | None = False
) -> Answer:
    prompt = f"{suite} question {number} on {category}"
    return Answer(suite, f"{suite}-{category}-{number}", prompt, category, text, refused, False)


def answers(per_category: int = 5, open_count: int = 20) -> list[Answer]:
    harmful = [make_answer("harmful", n, category) for category in HARM_CATEGORIES for n in range(per_category)]
    return harmful + [make_answer(suite, n, BENIGN) for suite in ("ordinary", "lookalike") for n in range(open_count)]


def make_model(name: str, refused: int = 3, perplexity: float = 12.5) -> ModelSummary:
    some = rate([True] * refused + [False] * (10 - refused) + [None])
    return ModelSummary(
        name=name,
        refusal=dict.fromkeys([*HARM_CATEGORIES, "all"], some),
        over_refusal={"ordinary": some, "lookalike": some},
        perplexity=perplexity,
        distinct_2=0.7,
        commonest_opening=0.1,
        commonest_answer=0.05,
    )


def steps(count: int = 4) -> list[StepRecord]:
    categories = ("insult", BENIGN, "all")
    return [StepRecord(s, name, c, 0.1 * s) for s in range(count) for name in STEP_NAMES for c in categories]


def scaling(count: int = 4) -> list[ScalingRecord]:
    return [
        ScalingRecord(step, f"p{row}", "insult", 1.0, 1.1, 1.1 + 0.1 * row, 0.5, 1.0, 0.2, 0.3)
        for step in range(count)
        for row in range(2)
    ]


def share(hits: int, count: int) -> Rate:
    return rate([True] * hits + [False] * (count - hits))


def make_curve(rounds: int = 2, epochs: int = 2, kept: int = 1) -> list[LearningPoint]:
    """Accuracy rises and loss falls with every epoch; `kept` is a place in the curve."""
    return [
        LearningPoint(
            step=3 * (place + 1),
            round=place // epochs,
            loss=0.7 - 0.1 * place,
            validation_loss=0.8 - 0.1 * place,
            accuracy=0.5 + 0.1 * place,
            gap=0.2 * place,
            kept=place == kept,
        )
        for place in range(rounds * epochs)
    ]


def make_reward(category: str, **changes: object) -> RewardSummary:
    """A category's reward model, the single one beside it; `changes` replace fields."""
    harmful = category != BENIGN
    kinds = dict.fromkeys([*KINDS, "all"], share(3, 5)) if harmful else {}
    fields: dict[str, object] = {
        "category": category,
        "train_rows": 30,
        "validation_accuracy": share(7, 8),
        "validation_gap": mean_interval([1.0, 2.0]),
        "unseen_accuracy": share(2, 3),
        "unseen_gap": mean_interval([0.5, 1.5]),
        "hard_accuracy": kinds,
        "single_unseen": share(1, 3),
        "single_hard": share(2, 5) if harmful else None,
        "length_correlation": -0.25,
        "rules": dict.fromkeys(RULES, share(1, 8)),
        "warnings": [],
        "loss": [0.7, 0.5, 0.4],
        "curve": make_curve(),
    }
    return RewardSummary(**(fields | changes))


def complete_run(**changes: object) -> ReportData:
    """A small complete run; `changes` replace fields."""
    fields: dict[str, object] = {
        "run_id": "run-1",
        "title": "A run",
        "created": "2026-01-02T03:04:05+00:00",
        "profile": "smoke",
        "settings": {"seed": 7, "grpo": {"steps": 4, "clip": None}},
        "environment": {"machine": "two cores", "device": "cpu", "torch": "2.0"},
        "balance": BalanceSummary(
            {"insult": 9, "privacy_property": 3}, {"insult": 3}, 0.8, 1.0, {"own.csv": {"near duplicate": 2}}
        ),
        "rewards": [make_reward(category) for category in (*HARM_CATEGORIES, BENIGN)],
        "cross_accuracy": {a: dict.fromkeys(HARM_CATEGORIES, 0.8) for a in (*HARM_CATEGORIES, SINGLE)},
        "steps": steps(),
        "scaling": scaling(),
        "models": [make_model(name) for name in MODELS],
        "comparisons": [Comparison("harmful", "unaligned", "aligned", 12, 1, 0.0034)],
        "answers": {name: answers() for name in MODELS},
        "stage_seconds": {"sources": 1.0, "grpo": 75.0},
    }
    return ReportData(**(fields | changes))


NOTHING: dict[str, object] = {
    "settings": {},
    "environment": {},
    "balance": BalanceSummary({}, {}, math.nan, math.nan, {}),
    "rewards": [],
    "cross_accuracy": {},
    "steps": [],
    "scaling": [],
    "models": [],
    "comparisons": [],
    "answers": {},
    "stage_seconds": {},
}
"""The changes that leave a run with no result at all."""


class Page(HTMLParser):
    """Splits a page into its text inside and outside <details>, and remembers its tags, attributes and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.folded, self.open_text, self.attributes = "", "", []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self._depth = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._depth += tag == "details"
        self.handle_data(" ")  # cells and terms stand side by side without white space between their tags
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "details"

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.folded += data
        else:
            self.open_text += data


@pytest.fixture
def model() -> Callable[..., ModelSummary]:
    return make_model


@pytest.fixture
def answer() -> Callable[..., Answer]:
    return make_answer


@pytest.fixture
def reward() -> Callable[..., RewardSummary]:
    return make_reward


@pytest.fixture
def curve() -> Callable[..., list[LearningPoint]]:
    return make_curve


@pytest.fixture
def complete() -> Callable[..., ReportData]:
    return complete_run


@pytest.fixture(scope="session")
def full_page() -> Page:
    """The page of a complete run."""
    return Page(render_report(complete_run()))


@pytest.fixture
def page() -> Callable[..., Page]:
    """Renders a run that has nothing but what is given: quick, and the test says what matters."""
    return lambda **results: Page(render_report(complete_run(**(NOTHING | results))))
