"""Data hardness: how far completions are from the demonstration, in the text encoder's eyes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dr_irl.errors import ModelError
from dr_irl.scaling.clauses import split_clauses

Encode = Callable[[Sequence[str]], Float[np.ndarray, "texts dims"]]
"""Text -> unit-length embeddings."""
Level = Literal["clauses", "whole"]


class ClauseEmbeddings:
    """Measures distances with a text encoder, and keeps the embeddings of demonstrations for the next time."""

    def __init__(
        self, encode: Encode, *, level: Level, kept: Mapping[str, Float[np.ndarray, " dims"]] | None = None
    ) -> None:
        """Start with nothing kept, or with embeddings from before.

        Args:
            encode: the text encoder.
            level: `clauses`, or `whole` for each text as one clause.
            kept: clause -> its unit-length embedding by the same encoder.
        """
        self.encode = encode
        self.split = split_clauses if level == "clauses" else _whole
        self.kept = dict(kept or {})

    def distances(self, completions: Sequence[str], demonstrations: Sequence[str]) -> list[float]:
        """D = 1 - W of each completion to its own demonstration; every clause that is not kept is encoded once.

        Raises:
            ModelError: the encoder's embeddings are not finite, or of another length than those kept.
        """
        groups: dict[str, dict[str, None]] = {}
        for completion, demonstration in zip(completions, demonstrations, strict=True):
            groups.setdefault(demonstration, {})[completion] = None
        clauses = {text: self.split(text) for text in {*completions, *demonstrations}}
        embeddings = self._embed({clause for found in clauses.values() for clause in found})
        self.kept |= {c: embeddings[c].copy() for text in groups for c in clauses[text] if c not in self.kept}
        found: dict[tuple[str, str], float] = {}
        for demonstration, texts in groups.items():
            counts = np.array([len(clauses[text]) for text in texts])
            rows = _stack(embeddings, [clause for text in texts for clause in clauses[text]])
            similarity = clause_similarity(rows, counts, _stack(embeddings, clauses[demonstration]))
            found |= zip(((text, demonstration) for text in texts), (1.0 - similarity).tolist(), strict=True)
        return [found[pair] for pair in zip(completions, demonstrations, strict=True)]

    def _embed(self, clauses: set[str]) -> dict[str, Float[np.ndarray, " dims"]]:
        # Sorted: which clauses share a batch of the encoder must not depend on the order they came in. By length: a
        # batch is padded to its longest.
        new = sorted(clauses - self.kept.keys(), key=lambda clause: (len(clause), clause))
        if not new:
            return self.kept
        encoded = self.encode(new)
        self._require_usable(new, encoded)
        return self.kept | dict(zip(new, encoded, strict=True))

    def _require_usable(self, new: Sequence[str], encoded: Float[np.ndarray, "clauses dims"]) -> None:
        finite = np.isfinite(encoded).all(axis=1)
        if not finite.all():
            raise ModelError(
                f"{int((~finite).sum())} of {len(new)} embeddings are not finite; check the weights of models.encoder, "
                "or name another"
            )
        if other := {len(vector) for vector in self.kept.values()} - {encoded.shape[1]}:
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


def _stack(
    embeddings: Mapping[str, Float[np.ndarray, " dims"]], clauses: Sequence[str]
) -> Float[np.ndarray, "clauses dims"]:
    dims = len(next(iter(embeddings.values()), ()))  # no clauses need to have as many
    return np.stack([embeddings[clause] for clause in clauses]) if clauses else np.zeros((0, dims))
