"""What a stage that was built shows on the page of its run: tables of numbers, never texts."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from prefect.artifacts import create_table_artifact

from dr_irl.categories import BENIGN
from dr_irl.records import ScalingRecord
from tasks.contents import SCALING

Row = Mapping[str, str | int | float]


def show_scaling(folder: Path) -> None:
    """Show what scaled the advantages: the factors of each harm category over all steps, and its gaps at both ends."""
    rows = scaling_rows(ScalingRecord.read(folder / SCALING))
    create_table_artifact(
        [dict(row) for row in rows],
        key="scaling-factors",
        description="Dynamic reward scaling: aD, aM and alpha (mean, least to greatest), the mean reward gap of the "
        "first and the last step, and the share of gaps that passed the filter.",
    )


def scaling_rows(records: Sequence[ScalingRecord]) -> list[Row]:
    """Sum up the factors of each harm category."""
    by_category: dict[str, list[ScalingRecord]] = defaultdict(list)
    for record in records:
        if record.category != BENIGN:
            by_category[record.category].append(record)
    return [_row(category, by_category[category]) for category in sorted(by_category)]


def _row(category: str, records: Sequence[ScalingRecord]) -> Row:
    steps = sorted({record.step for record in records})

    def mean_gap(step: int) -> float:
        return round(fmean(record.gap for record in records if record.step == step), 3)

    return {
        "category": category,
        "prompts": len(records),
        "aD": _spread(records, lambda record: record.data),
        "aM": _spread(records, lambda record: record.model),
        "alpha": _spread(records, lambda record: record.alpha),
        "gap, first step": mean_gap(steps[0]),
        "gap, last step": mean_gap(steps[-1]),
        "gaps kept": f"{fmean(record.kept for record in records):.0%}",
    }


def _spread(records: Sequence[ScalingRecord], of: Callable[[ScalingRecord], float]) -> str:
    values = [of(record) for record in records]
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
