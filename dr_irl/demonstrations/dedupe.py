"""Drops duplicates, near duplicates, and training prompts that overlap an evaluation set.

Departure from method.md 1.1: near duplicates are found exactly, by Jaccard similarity of word 3-grams through an
inverted index, not by MinHash; at the sizes met here that is fast enough and has no misses. A prompt to refuse and a
prompt to answer are no near duplicates in training, however alike: such pairs teach what tells the two apart.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from dr_irl.categories import BENIGN
from dr_irl.records import Example

_SHINGLE_WORDS = 3
_OPPOSITE = {"answer", "refuse"}
# Scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese): there one character counts as one word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['’][^\W{_UNSPACED}]+)*")

Shingles = frozenset[tuple[str, ...]]
LeftOut = list[tuple[Example, str]]
"""Rows that are not kept, each with the reason."""


def normalise(text: str) -> str:
    """Fold compatibility forms and case, collapse white space, strip punctuation at both ends."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    start, end = 0, len(folded)
    while start < end and _is_edge(folded[start]):
        start += 1
    while end > start and _is_edge(folded[end - 1]):
        end -= 1
    return " ".join(folded[start:end].split())


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of the word 3-grams of two prompts (character 3-grams where a script has no spaces)."""
    return _jaccard(_ngrams(left, _SHINGLE_WORDS), _ngrams(right, _SHINGLE_WORDS))


def drop_duplicates(examples: Sequence[Example], *, near_duplicate: float) -> tuple[list[Example], LeftOut]:
    """Keep one of every set of equal or similar prompts, in the order given.

    A held-out row wins over a training row, so that no held-out prompt is near a training prompt; then a row with a
    demonstration over one without, a row with a category over one without, the earlier over the later. Training rows
    that are similar but not equal both stay where one is benign and the other of a harm category.

    Args:
        examples: rows of any split.
        near_duplicate: `similarity` from which two prompts are near duplicates.

    Returns:
        The rows kept, and the others, each with `exact duplicate` or `near duplicate`.
    """
    left_out: LeftOut = []
    seen: set[str] = set()
    first: list[int] = []
    for position in sorted(range(len(examples)), key=lambda p: _precedence(examples[p])):
        text = normalise(examples[position].prompt)
        if text in seen:
            left_out.append((examples[position], "exact duplicate"))
            continue
        seen.add(text)
        first.append(position)
    rows = [(p, _ngrams(examples[p].prompt, _SHINGLE_WORDS), _side(examples[p])) for p in first]
    kept = set(_without_near(rows, near_duplicate))
    left_out += [(examples[position], "near duplicate") for position in first if position not in kept]
    return [examples[position] for position in sorted(kept)], left_out


def drop_overlaps(
    examples: Sequence[Example], evaluation: Mapping[str, Sequence[str]], *, ngram: int
) -> tuple[list[Example], LeftOut]:
    """Drop training rows that an evaluation set would be spoilt by; held-out rows stay.

    Args:
        examples: rows of any split.
        evaluation: name of an evaluation set -> its prompts.
        ngram: consecutive words in common that make an overlap; a shorter prompt overlaps only an equal one.

    Returns:
        The rows kept, and the others, each with the set that it would spoil; of several, the first.
    """
    owner: dict[tuple[str, ...], str] = {}
    for name, prompts in evaluation.items():
        for prompt in prompts:
            for gram in _ngrams(prompt, ngram):
                owner.setdefault(gram, name)
    order = list(evaluation)
    left_out: LeftOut = []
    kept: list[Example] = []
    for example in examples:
        grams = _ngrams(example.prompt, ngram) if example.split == "train" else ()
        owners = {owner[gram] for gram in grams if gram in owner}
        if owners:
            left_out.append((example, f"overlaps {min(owners, key=order.index)}"))
        else:
            kept.append(example)
    return kept, left_out


def cluster(prompts: Sequence[str], threshold: float) -> list[list[int]]:
    """Group prompts so that no two of different groups are as similar as `threshold`.

    Args:
        prompts: distinct or not.
        threshold: `similarity` from which two prompts belong together; what one has in common with a third joins all.

    Returns:
        Positions in `prompts`, each in one group; groups by their first position.
    """
    shingles = [_ngrams(prompt, _SHINGLE_WORDS) for prompt in prompts]
    index: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    group = list(range(len(prompts)))

    def root(position: int) -> int:
        while group[position] != position:
            group[position] = position = group[group[position]]
        return position

    for position, own in enumerate(shingles):
        for other in {other for shingle in own for other in index[shingle]}:
            if root(other) != root(position) and _jaccard(own, shingles[other]) >= threshold - 1e-9:
                group[max(root(other), root(position))] = min(root(other), root(position))
        for shingle in own:
            index[shingle].append(position)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position in range(len(prompts)):
        members[root(position)].append(position)
    return list(members.values())


def _is_edge(character: str) -> bool:
    return character.isspace() or unicodedata.category(character).startswith("P")


def _precedence(example: Example) -> tuple[bool, bool, bool]:
    return example.split != "heldout", example.response is None, example.category is None


def _side(example: Example) -> str:
    """Return what a training row teaches, to answer or to refuse; empty where it teaches neither, or nothing yet."""
    if example.split == "heldout" or example.category is None:
        return ""
    return "answer" if example.category == BENIGN else "refuse"


def _ngrams(text: str, words: int) -> Shingles:
    """Return all runs of `words` words; the whole text as one run where it is shorter."""
    normalised = normalise(text)
    found = [word.replace("’", "'") for word in _WORD.findall(normalised)]
    if not found:  # symbols only
        return frozenset({(normalised,)})
    return frozenset(tuple(found[i : i + words]) for i in range(max(1, len(found) - words + 1)))


def _jaccard(left: Shingles, right: Shingles) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def _without_near(rows: Sequence[tuple[int, Shingles, str]], threshold: float) -> list[int]:
    """Return the positions of rows that are not near an earlier kept row, unless it is of the opposite side.

    Two sets can only reach the threshold when they share one of their rarest shingles: of n, the n - ceil(t n) + 1
    rarest. Only those are indexed and looked up, so common phrases ("how do i") cost nothing.
    """
    frequency = Counter(shingle for _, shingles, _ in rows for shingle in shingles)
    index: defaultdict[tuple[str, ...], list[tuple[Shingles, str]]] = defaultdict(list)
    kept: list[int] = []
    for position, shingles, side in rows:
        needed = math.ceil(threshold * len(shingles) - 1e-9)  # 0.7 * 10 is a little above 7
        rarest = sorted(shingles, key=lambda shingle: (frequency[shingle], shingle))[: len(shingles) - needed + 1]
        met = (other for shingle in rarest for other, theirs in index[shingle] if {side, theirs} != _OPPOSITE)
        if not _any_near(shingles, met, threshold):
            kept.append(position)
            for shingle in rarest:
                index[shingle].append((shingles, side))
    return kept


def _any_near(shingles: Shingles, candidates: Iterable[Shingles], threshold: float) -> bool:
    return any(_jaccard(shingles, other) >= threshold - 1e-9 for other in candidates)
