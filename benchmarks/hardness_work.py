"""Data hardness beside the plain way of measuring it, pair by pair; prints JSON.

    python benchmarks/hardness_work.py --pairs 100000

Pairs are made from the shipped demonstrations of harmful prompts: each meets `GROUP` completions, and comes again where
there are more pairs than that gives. Two kinds of completions, for what ours saves depends on how often clauses repeat:

- distinct: another demonstration of the category with a number of its own in every clause, so that none comes twice.
- as sampled: the first `SHORT_WORDS` words of any demonstration of the category, drawn with replacement, as the answers
  of an aligned policy repeat. Few pairs repeat little.

The plain way splits both texts of a pair, encodes their clauses in one call, and takes cosines, maxima and the mean.
It is timed on `SAMPLE` pairs drawn at random, and its seconds are scaled to all pairs; both sides must agree there to
1e-5. `ratio` is its scaled seconds over ours.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timing import in_turns, machine_facts, ratio, spread

from dr_irl.categories import HARM_CATEGORIES
from dr_irl.demonstrations.sources import SEED, load_examples
from dr_irl.language.load import load_encoder
from dr_irl.scaling.clauses import split_clauses
from dr_irl.scaling.hardness import distances
from dr_irl.seeding import torch_generator
from tasks.models import unit_embeddings

ENCODER = "bundled:all-minilm-l6-v2"
GROUP = 4
SHORT_WORDS = 12
"""About what the 16 new tokens of profile laptop hold."""
DISTINCT_PAIRS = 10_000
"""At most so many whose completions share no clause: there both sides take time in proportion to the pairs."""
SAMPLE = 300
AGREEMENT = 1e-5

Pair = tuple[str, str]
"""A completion and its demonstration."""
Answer = Callable[[int, str], str]
"""Number of a pair and a demonstration's text -> a completion made from it."""


def measure_hardness(pairs: int, turns: int) -> dict[str, Any]:
    """Time both sides on both kinds of completions."""
    encoder = load_encoder(ENCODER)
    return {
        "distinct": compare(encoder, make_pairs(min(pairs, DISTINCT_PAIRS), numbered), turns),
        "as_sampled": compare(encoder, make_pairs(pairs, shortened), turns),
    }


def compare(encoder: Any, pairs: Sequence[Pair], turns: int) -> dict[str, Any]:
    """Time ours on all pairs and the plain way on some of them, in turns."""
    drawn = torch.randperm(len(pairs), generator=torch_generator(0, "benchmark hardness"))[:SAMPLE].tolist()
    completions, demonstrations = (list(side) for side in zip(*pairs, strict=True))
    found: dict[str, list[float]] = {}

    def ours() -> None:
        found["ours"] = distances(completions, demonstrations, unit_embeddings(encoder), level="clauses")

    def plain() -> None:
        found["plain"] = [plain_distance(encoder, *pairs[row]) for row in drawn]

    plain_distance(encoder, *pairs[0])  # the first call is slower
    seconds = in_turns({"ours": ours, "plain": plain}, turns)
    scaled = [s * len(pairs) / len(drawn) for s in seconds["plain"]]
    difference = max(abs(found["ours"][row] - value) for row, value in zip(drawn, found["plain"], strict=True))
    if difference > AGREEMENT:
        raise SystemExit(f"the two sides differ by {difference:.1e}; {AGREEMENT} is allowed")
    return {
        "pairs": len(pairs),
        "distinct_completions": len(set(completions)),
        "unique_clauses": len({clause for text in {*completions, *demonstrations} for clause in split_clauses(text)}),
        "seconds": spread(seconds["ours"]),
        "pairs_per_second": spread([len(pairs) / s for s in seconds["ours"]]),
        "plain_sample": len(drawn),
        "plain_seconds_scaled_to_all": spread(scaled),
        "ratio": ratio(scaled, seconds["ours"]),
        "max_difference": difference,
    }


def plain_distance(encoder: Any, completion: str, demonstration: str) -> float:
    """D of one pair as its formula reads."""
    clauses, others = split_clauses(completion), split_clauses(demonstration)
    rows = encoder.encode([*clauses, *others], normalize_embeddings=True, show_progress_bar=False)
    cosines = rows[: len(clauses)] @ rows[len(clauses) :].T
    return 1.0 - min(1.0, max(0.0, float(cosines.max(axis=1).mean())))


def make_pairs(count: int, answer: Answer) -> list[Pair]:
    """Go through the demonstrations of all categories in turn; each answers with another of its own category."""
    examples, _ = load_examples([SEED], max_prompt_characters=4000, max_bad_rows=0.0)
    texts = {c: [str(e.response) for e in examples if e.category == c and e.response] for c in HARM_CATEGORIES}
    others = torch.randint(2**31, (count,), generator=torch_generator(0, "benchmark completions")).tolist()
    pairs: list[Pair] = []
    for number, drawn in enumerate(others):
        turn, place = number // GROUP // len(HARM_CATEGORIES), number // GROUP % len(HARM_CATEGORIES)
        own = texts[HARM_CATEGORIES[place]]
        pairs.append((answer(number, own[drawn % len(own)]), own[turn % len(own)]))
    return pairs


def numbered(number: int, text: str) -> str:
    """Put the pair's number at the end of every clause, before its punctuation."""
    return " ".join(re.sub(r"([.,;:!?'\"]*)$", rf" {number}\1", clause, count=1) for clause in split_clauses(text))


def shortened(number: int, text: str) -> str:
    """Cut a text off as the limit of new tokens does."""
    return " ".join(text.split()[:SHORT_WORDS])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=1, help="how often every side is timed")
    options = parser.parse_args()
    print(json.dumps({**machine_facts("cpu"), **measure_hardness(options.pairs, options.turns)}, indent=2))


if __name__ == "__main__":
    main()
