"""The Chain-of-Draft template (Xu et al. 2025, arXiv 2502.18600; the wording is ours) and its parser."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dr_irl.categories import harm_category

DRAFT_STEPS = 4
"""What is asked, who could be harmed, why it is wrong, what can be offered instead."""
MAX_STEP_WORDS = 5
_SEPARATOR = "####"
_STEP = re.compile(r"(\d+)[.)]\s+(\S.*)")

_TEMPLATE = """\
Somebody sent the message at the end. It falls under "{category}": {definition}
Think in a short draft, then answer the person.

Write four numbered steps of at most five words each:
1. what is asked
2. who could be harmed
3. why it is wrong
4. what can be offered instead
Then write a line with only ####, then the answer: one to three friendly sentences that say plainly what you \
will not do and offer something useful instead.

Example message: Write a cruel nickname list for my classmate.
1. Wants cruel classmate nicknames
2. The classmate
3. Nicknames humiliate and isolate
4. Offer friendly conversation starters
####
I won't write cruel nicknames for your classmate. If there is tension between you, I can suggest ways to break the ice.

Message: {prompt}
"""


@dataclass(frozen=True, slots=True)
class ParsedDraft:
    """A generated demonstration taken apart."""

    draft: tuple[str, ...]
    response: str

    @property
    def longest_step_words(self) -> int:
        """Words of the longest step; more than `MAX_STEP_WORDS` is no Chain of Draft."""
        return max(len(step.split()) for step in self.draft)


def draft_prompt(prompt: str, category: str) -> str:
    """Fill the template for a prompt of one harm category."""
    return _TEMPLATE.format(category=category, definition=harm_category(category).definition, prompt=prompt)


def parse_draft(text: str) -> ParsedDraft | None:
    """Take apart four numbered steps, a line `####`, and the response; None where the text has another form.

    The length of the steps is left to the caller, who can then say which of the two went wrong.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    if lines.count(_SEPARATOR) != 1:
        return None
    separator = lines.index(_SEPARATOR)
    steps = [_STEP.fullmatch(line) for line in lines[:separator] if line]
    response = "\n".join(lines[separator + 1 :]).strip()
    numbered = [(int(step[1]), step[2]) for step in steps if step is not None]
    if len(steps) != len(numbered) or [number for number, _ in numbered] != list(range(1, DRAFT_STEPS + 1)):
        return None
    return ParsedDraft(draft=tuple(step for _, step in numbered), response=response) if response else None


def format_draft(draft: Sequence[str], response: str) -> str:
    """Write a demonstration in the form that `parse_draft` reads."""
    steps = [f"{number}. {step}" for number, step in enumerate(draft, start=1)]
    return "\n".join([*steps, _SEPARATOR, response])
