"""Data hardness: how far completions are from the demonstration, in the text encoder's eyes."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dr_irl.errors import ModelError
from dr_irl.scaling.clauses import split_clauses
from dr_irl.scaling.options import Level

Encode = Callable[[Sequence[str]], Float[np.ndarray, "texts dims"]]
"""Text -> unit-length embeddings."""


class ClauseEmbeddings:
    """Measures distances with a text encoder, and keeps the embeddings of demonstrations for the next time.

    What is kept changes no bit of a later result: in the last bits an embedding depends on the texts that share a batch
    of the encoder, so a demonstration is encoded alone, and a call's completions are encoded together, kept or not.
    """

    def __init__(
        self, encode: Encode, *, level: Level, kept: Mapping[str, Float[np.ndarray, "_ dims"]] | None = None
    ) -> None:
        """Start with nothing kept, or with embeddings from before.

        Args:
            encode: the text encoder.
            level: `clauses`, or `whole` for each text as one clause.
            kept: demonstration -> unit-length embeddings of its clauses by the same encoder.
        """
        self.encode = encode
        self.split = split_clauses if level == "clauses" else _whole
        self.kept = dict(kept or {})

    def distances(self, completions: Sequence[str], demonstrations: Sequence[str]) -> list[float]:
        """D = 1 - W of each completion to its own demonstration.

        Raises:
            ModelError: the encoder's embeddings are not finite, or of another length than those kept.
        """
        groups: dict[str, dict[str, None]] = {}
        for completion, demonstration in zip(completions, demonstrations, strict=True):
            groups.setdefault(demonstration, {})[completion] = None
        for text in [text for text in groups if text not in self.kept]:
            if own := self.split(text):
                self.kept[text] = self._embed(own)
        clauses = {text: self.split(text) for text in set(completions)}
        # Sorted: which clauses share a batch of the encoder must not depend on the order they came in. By length: a
        # batch is padded to its longest.
        unique = sorted({c for own in clauses.values() for c in own}, key=lambda clause: (len(clause), clause))
        embeddings, place = self._embed(unique), {clause: row for row, clause in enumerate(unique)}
        self._require_one_encoder(embeddings)
        found: dict[tuple[str, str], float] = {}
        for demonstration, texts in groups.items():
            counts = np.array([len(clauses[text]) for text in texts])
            rows = embeddings[[place[clause] for text in texts for clause in clauses[text]]]
            similarity = clause_similarity(rows, counts, self.kept.get(demonstration, embeddings[:0]))
            found |= zip(((text, demonstration) for text in texts), (1.0 - similarity).tolist(), strict=True)
        return [found[pair] for pair in zip(completions, demonstrations, strict=True)]

    def _embed(self, clauses: Sequence[str]) -> Float[np.ndarray, "clauses dims"]:
        if not clauses:
            return np.zeros((0, next((vectors.shape[1] for vectors in self.kept.values()), 1)), dtype=np.float32)
        encoded = self.encode(clauses)
        if not (finite := np.isfinite(encoded).all(axis=1)).all():
            raise ModelError(
                f"{int((~finite).sum())} of {len(clauses)} embeddings are not finite; check the weights of "
                "models.encoder, or name another"
            )
        return encoded

    def _require_one_encoder(self, encoded: Float[np.ndarray, "_ dims"]) -> None:
        if other := {vectors.shape[1] for vectors in self.kept.values()} - {encoded.shape[1]}:
            raise ModelError(
                f"the text encoder gives embeddings of {encoded.shape[1]} numbers, and kept ones have "
                f"{', '.join(map(str, sorted(other)))}; all must be of one encoder: name the one that made the kept "
                "embeddings as models.encoder, or start without them"
            )


def distances(
    completions: Sequence[str], demonstrations: Sequence[str], encode: Encode, *, level: Level
) -> list[float]:
    """D = 1 - W of each completion to its own demonstration, with nothing kept; see `ClauseEmbeddings`."""
    return ClauseEmbeddings(encode, level=level).distances(completions, demonstrations)


def clause_similarity(
    completions: Float[np.ndarray, "clauses dims"],
    counts: Int[np.ndarray, " completions"],
    demonstration: Float[np.ndarray, "demonstration_clauses dims"],
) -> Float[np.ndarray, " completions"]:
    """W = (1/K) sum_k max_l cos(c_k, e_l), clipped to [0, 1], of several completions to one demonstration.

    A text without clauses is like nothing: W = 0.

    Args:
        completions: unit-length embeddings of the clauses of all completions, one completion after the other.
        counts: K of each completion.
        demonstration: unit-length embeddings of the demonstration's clauses.
    """
    if len(completions) == 0 or len(demonstration) == 0:
        return np.zeros(len(counts))
    best = (completions @ demonstration.T).max(axis=1)
    sums = np.bincount(np.repeat(np.arange(len(counts)), counts), weights=best, minlength=len(counts))
    return (sums / np.maximum(counts, 1)).clip(0.0, 1.0)


def data_hardness(
    prompt_distance: Float[Tensor, " prompts"], category_distance: Float[Tensor, " prompts"], *, kappa: float
) -> Float[Tensor, " prompts"]:
    """aD_i = s(kappa * mean_k d_ik) / s(kappa * mean over category j of d).

    Args:
        prompt_distance: mean over k of d_ik.
        category_distance: mean of d over the prompt's whole category.
        kappa: slope; 1 as published.
    """
    return torch.sigmoid(kappa * prompt_distance) / torch.sigmoid(kappa * category_distance)


def _whole(text: str) -> list[str]:
    return [text] if text.strip() else []
