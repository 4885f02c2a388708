"""The openings of a set of answers as a distribution: which token comes next, given the tokens before it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

TokenShares: TypeAlias = Mapping[int, float]
"""Token id -> its share; shares sum to 1."""


class Openings:
    """What follows each beginning within a set of answers: a trie of their first tokens, with counts."""

    def __init__(self, answers: Sequence[Sequence[int]], *, depth: int) -> None:
        """Count the first `depth` tokens of the answers, given as token ids."""
        self._depth = depth
        counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for answer in answers:
            for place, token in enumerate(answer[:depth]):
                counts[tuple(answer[:place])][token] += 1
        self._shares = {
            prefix: {token: count / following.total() for token, count in following.items()}
            for prefix, following in counts.items()
        }

    def targets(self, answer: Sequence[int]) -> list[TokenShares]:
        """Give, for each token of one of the answers, what should be predicted there: beyond the depth, that token.

        The cross-entropy to these targets has the mean, over the answers with the same beginning, of what the tokens
        themselves as targets would give, and none of the variance.
        """
        opening = [self._shares[tuple(answer[:place])] for place in range(min(self._depth, len(answer)))]
        return [*opening, *certain(answer[self._depth :])]


def certain(answer: Sequence[int]) -> list[TokenShares]:
    """Give each token of an answer as the only target there."""
    return [{token: 1.0} for token in answer]
