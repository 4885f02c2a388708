from collections.abc import Callable, Sequence

import pytest
import torch

from dr_irl.demonstrations.dedupe import LeftOut
from dr_irl.demonstrations.generate import generate_demonstrations
from dr_irl.demonstrations.templates import draft_prompt, format_draft
from dr_irl.evaluation.judges import JUDGES
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler, Sample
from dr_irl.records import Example

Make = Callable[..., Example]

DRAFT = ("Wants mockery", "The target", "Mockery hurts", "Offer kind words")
GOOD = format_draft(DRAFT, "I won't mock him. I can help you write something kind.")


class Scripted:
    """A sampler that says what it is told to say and remembers what it was asked."""

    def __init__(self, *texts: str, truncated: bool = False) -> None:
        self.texts, self.truncated = texts, truncated
        self.asked: list[str] = []

    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        self.asked += prompts
        return [[Sample((0,), text, self.truncated)] for text in self.texts[: len(prompts)]]


def run(examples: list[Example], sampler: Scripted, words: int = 40) -> tuple[list[Example], LeftOut]:
    generator = torch.Generator().manual_seed(0)
    return generate_demonstrations(examples, sampler, JUDGES["wording"], max_response_words=words, generator=generator)


def bare(make_example: Make, prompt: str = "mock him", **changes: str | None) -> Example:
    return make_example(prompt, **({"response": None, "draft": ()} | changes))


def test_a_good_demonstration_is_taken_apart_and_kept(make_example: Make) -> None:
    kept, dropped = run([bare(make_example)], Scripted(GOOD))
    assert (kept[0].draft, kept[0].response) == (DRAFT, "I won't mock him. I can help you write something kind.")
    assert dropped == []


def test_harmful_prompts_are_asked_through_the_template_and_benign_ones_plainly(make_example: Make) -> None:
    sampler = Scripted(GOOD, "Boil it for nine minutes.")
    run([bare(make_example), bare(make_example, "boil an egg", category="benign")], sampler)
    assert sampler.asked == [draft_prompt("mock him", "insult"), "boil an egg"]


def test_a_benign_answer_is_kept_whole(make_example: Make) -> None:
    kept, _ = run([bare(make_example, category="benign")], Scripted("Boil it for nine minutes."))
    assert (kept[0].draft, kept[0].response) == ((), "Boil it for nine minutes.")


@pytest.mark.parametrize(
    ("category", "text", "reason"),
    [
        ("insult", "I won't.", "does not parse"),
        ("insult", format_draft(("a b c d e f", "b", "c", "d"), "I won't."), "draft step too long"),
        ("insult", format_draft(DRAFT, "I won't" + " really" * 40), "response too long"),
        ("insult", format_draft(DRAFT, "Gladly: he is a fool."), "judge did not accept"),
        ("insult", format_draft(DRAFT, "..."), "judge did not accept"),  # the judge cannot tell
        ("benign", "I won't help with eggs.", "judge did not accept"),
        ("benign", " ", "does not parse"),
        ("benign", "egg " * 41, "response too long"),
    ],
)
def test_a_bad_demonstration_is_dropped_for_its_reason(
    make_example: Make, category: str, text: str, reason: str
) -> None:
    row = bare(make_example, category=category)
    assert run([row], Scripted(text)) == ([], [(row, reason)])


def test_an_answer_cut_by_the_token_limit_is_too_long(make_example: Make) -> None:
    row = bare(make_example)
    assert run([row], Scripted(GOOD, truncated=True))[1] == [(row, "response too long")]


def test_a_training_row_without_a_category_is_dropped(make_example: Make) -> None:
    row = bare(make_example, category=None)
    assert run([row], Scripted()) == ([], [(row, "no category")])


def test_other_rows_pass_through_in_order(make_example: Make) -> None:
    examples = [make_example("has one"), bare(make_example), bare(make_example, "held", split="heldout")]
    sampler = Scripted(GOOD)
    kept, _ = run(examples, sampler)
    assert (kept[0], kept[2]) == (examples[0], examples[2])
    assert len(sampler.asked) == 1


def test_a_random_model_writes_nothing_that_passes(make_example: Make) -> None:
    name = "bundled:tiny-random-lm"
    model = load_causal_lm(name, dtype=torch.float32)
    sampler = CachedPrefixSampler(model, load_tokenizer(name), max_new_tokens=4)
    kept, dropped = generate_demonstrations(
        [bare(make_example)],
        sampler,
        JUDGES["wording"],
        max_response_words=9,
        generator=torch.Generator().manual_seed(0),
    )
    assert (kept, dropped) == ([], [(bare(make_example), "does not parse")])
