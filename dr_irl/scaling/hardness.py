"""Data hardness: how far completions are from the demonstration, in the text encoder's eyes."""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Encode = Callable[[Sequence[str]], Float[np.ndarray, "texts dims"]]
"""Text -> unit-length embeddings."""

_MIN_CLAUSE_WORDS = 3
_BOUNDARY = re.compile(
    # Only Chinese punctuation ends a clause without a space: 3.5, 10:30 and e.g. stay whole. A closing quote belongs
    # to the clause that it closes.
    r"(?<=[.!?;:])\s+|(?<=[.!?][\"'”’)])\s+|(?<=[。！？；：])(?![”’」』）])\s*|(?<=[。！？；：][”’」』）])\s*"
    r"|\n+|\s[-–—]\s|(?<=,)\s+(?=(?:and|but|or|so|because|which|while|if)\b)"
)
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|Mr|Mrs|Ms|Dr|Prof|vs|No|approx)\.$", re.IGNORECASE)


def split_clauses(text: str) -> list[str]:
    """Split a text into self-contained clauses; fragments of fewer than three words join their neighbour."""
    clauses: list[str] = []
    for piece in filter(None, (part.strip() for part in _BOUNDARY.split(text))):
        joins = clauses and (_is_fragment(clauses[-1]) or _ABBREVIATION.search(clauses[-1]))
        if joins:
            clauses[-1] = f"{clauses[-1]} {piece}"
        else:
            clauses.append(piece)
    if len(clauses) > 1 and _is_fragment(clauses[-1]):
        clauses[-2:] = [f"{clauses[-2]} {clauses[-1]}"]
    return clauses


def clause_similarity(
    completion: Float[Tensor, "clauses dims"], demonstration: Float[Tensor, "demonstration_clauses dims"]
) -> float:
    """W = (1/K) sum_k max_l cos(c_k, e_l), clipped to [0, 1]; rows are unit-length embeddings.

    A completion without clauses is like nothing: W = 0.
    """
    if len(completion) == 0 or len(demonstration) == 0:
        return 0.0
    best = (completion @ demonstration.T).max(dim=1).values
    return float(best.mean().clamp(0.0, 1.0))


def distances(
    completions: Sequence[str],
    demonstrations: Sequence[str],
    encode: Encode,
    *,
    level: Literal["clauses", "whole"],
) -> list[float]:
    """D = 1 - W of each completion to its own demonstration; every distinct clause is encoded once."""
    split = split_clauses if level == "clauses" else _whole
    parts = [(split(c), split(d)) for c, d in zip(completions, demonstrations, strict=True)]
    # Sorted: which texts share a batch of the encoder must not depend on the order they came in.
    unique = sorted({clause for pair in parts for side in pair for clause in side})
    embeddings = torch.from_numpy(encode(unique)) if unique else torch.zeros(0, 1)
    index = {clause: row for row, clause in enumerate(unique)}

    def rows(clauses: list[str]) -> Tensor:
        return embeddings[[index[clause] for clause in clauses]]

    return [1.0 - clause_similarity(rows(completion), rows(demonstration)) for completion, demonstration in parts]


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


def _is_fragment(clause: str) -> bool:
    is_chinese = any("一" <= character <= "鿿" for character in clause)
    return len(clause) < _MIN_CLAUSE_WORDS if is_chinese else len(clause.split()) < _MIN_CLAUSE_WORDS
