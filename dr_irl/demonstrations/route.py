"""Gives a category to prompts that have none: sentence embeddings and a calibrated linear classifier."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from dr_irl.categories import ALL_LABELS
from dr_irl.demonstrations.dedupe import LeftOut
from dr_irl.errors import DataError
from dr_irl.records import Example

_FOLDS = 5
# Calibration fits its sigmoids on a fold of each class; with fewer rows than this they would follow noise.
_ROWS_TO_CALIBRATE = 20


@dataclass(frozen=True)
class Router:
    """A fitted router, `benign` among its labels."""

    classifier: Any
    """A fitted scikit-learn classifier of embeddings."""
    cross_validated_accuracy: float | None
    """Share of labelled training rows that a router fitted on the others gets right; None where a class has 1 row."""

    @classmethod
    def fit(cls, examples: Sequence[Example], encoder: Any) -> "Router":
        """Fit on the training rows whose category the source named.

        Args:
            examples: rows of any split; held-out ones and already routed ones are left out.
            encoder: a `SentenceTransformer`.

        Raises:
            DataError: fewer than two classes have labelled rows.
        """
        named = [e for e in examples if e.split == "train" and e.category is not None and e.confidence is None]
        labels = np.array([e.category for e in named])
        counts = Counter(labels.tolist())
        if len(counts) < 2:
            seen = ", ".join(f"{label} ({count} rows)" for label, count in counts.items()) or "none"
            raise DataError(
                f"the router cannot learn: training rows with a category are of {seen}; it needs at least two of "
                f"{', '.join(ALL_LABELS)}; add 'seed' or another labelled file to sources.files"
            )
        embeddings = _embed([e.prompt for e in named], encoder)
        smallest = min(counts.values())
        accuracy = _cross_validate(embeddings, labels, smallest) if smallest > 1 else None
        return cls(_classifier(smallest).fit(embeddings, labels), accuracy)

    def route(
        self, examples: Sequence[Example], encoder: Any, *, min_confidence: float
    ) -> tuple[list[Example], LeftOut]:
        """Give every row without a category the likeliest one, or drop it where that is below `min_confidence`.

        Returns:
            The rows in the order given, those with a category unchanged, and the others: `router abstained`.
        """
        unnamed = [example.prompt for example in examples if example.category is None]
        if not unnamed:
            return list(examples), []
        probabilities = iter(self.classifier.predict_proba(_embed(unnamed, encoder)))
        kept: list[Example] = []
        left_out: LeftOut = []
        for example in examples:
            if example.category is not None:
                kept.append(example)
                continue
            row = next(probabilities)
            if row.max() >= min_confidence:
                category = str(self.classifier.classes_[row.argmax()])
                kept.append(replace(example, category=category, confidence=float(row.max())))
            else:
                left_out.append((example, "router abstained"))
        return kept, left_out

    def likeliest(self, prompts: Sequence[str], encoder: Any) -> list[tuple[str, float]]:
        """Return the likeliest category of each prompt, and its probability."""
        if not prompts:
            return []
        rows = self.classifier.predict_proba(_embed(prompts, encoder))
        return [(str(self.classifier.classes_[row.argmax()]), float(row.max())) for row in rows]


def sample_labelled(examples: Sequence[Example], *, per_label: int, generator: np.random.Generator) -> list[Example]:
    """Draw at most `per_label` different rows of each category from those that `Router.fit` learns from.

    The rows of one category come in the order of their framings: the first ones are no picture of the others.
    """
    named = {e.id: e for e in examples if e.split == "train" and e.category is not None and e.confidence is None}
    rows = list(named.values())
    drawn: list[Example] = []
    counts: Counter[str | None] = Counter()
    for position in generator.permutation(len(rows)).tolist():
        if counts[rows[position].category] < per_label:
            counts[rows[position].category] += 1
            drawn.append(rows[position])
    return drawn


def _embed(prompts: Sequence[str], encoder: Any) -> Float[np.ndarray, "rows dims"]:
    return encoder.encode(list(prompts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)


def _classifier(smallest: int) -> Any:
    """Return an unfitted classifier; `smallest` is the number of rows of the rarest class."""
    linear = LogisticRegression(max_iter=1000)
    if smallest < _ROWS_TO_CALIBRATE:
        return linear
    return CalibratedClassifierCV(linear, method="sigmoid", cv=_folds(smallest), ensemble=False)  # pyright: ignore[reportArgumentType]


def _cross_validate(embeddings: Float[np.ndarray, "rows dims"], labels: np.ndarray, smallest: int) -> float:
    # A fold takes rows away: what remains decides whether the inner classifier is calibrated.
    folds = _folds(smallest)
    inner = _classifier(smallest - -(-smallest // folds.n_splits))
    return float(np.mean(cross_val_predict(inner, embeddings, labels, cv=folds) == labels))


def _folds(smallest: int) -> StratifiedKFold:
    return StratifiedKFold(n_splits=min(_FOLDS, smallest), shuffle=True, random_state=0)
