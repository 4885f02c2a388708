"""The factors that scaled a run's advantages, drawn for the README; writes docs/images/alpha.svg.

    python benchmarks/alpha_curves.py STORE/objects/grpo/FINGERPRINT/scaling.parquet

One panel per harm category: data hardness aD, model responsiveness aM, and alpha as it was used, each the mean of a
step in a band from least to greatest. The report has the same curves.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from dr_irl.categories import HARM_CATEGORIES
from dr_irl.records import ScalingRecord

TARGET = Path(__file__).parent.parent / "docs" / "images" / "alpha.svg"
FACTORS: dict[str, tuple[str, str, Callable[[ScalingRecord], float]]] = {
    "data": ("aD, data hardness", "#c2571a", lambda record: record.data),
    "model": ("aM, model responsiveness", "#2563c9", lambda record: record.model),
    "alpha": ("α, as used", "#16202b", lambda record: record.alpha),
}


def draw_category(axes: Axes, category: str, records: Sequence[ScalingRecord]) -> None:
    """Draw the three factors of one category over the steps."""
    steps: dict[int, list[ScalingRecord]] = defaultdict(list)
    for record in records:
        steps[record.step].append(record)
    at = sorted(steps)
    axes.axhline(1.0, color="#8a94a0", linewidth=0.8, linestyle=(0, (2, 2)))
    for label, colour, read in FACTORS.values():
        values = [[read(record) for record in steps[step]] for step in at]
        axes.fill_between(at, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.15, linewidth=0)
        axes.plot(at, list(map(fmean, values)), color=colour, linewidth=1.6, marker=".", label=label)
    axes.set_title(category.replace("_", " "), fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw one run's factors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", type=Path, help="scaling.parquet of a run's artifact `grpo`")
    records = ScalingRecord.read(parser.parse_args().table)
    matplotlib.rcParams |= {"svg.hashsalt": "alpha", "svg.fonttype": "none", "font.family": "sans-serif"}
    figure, grid = plt.subplots(2, 4, figsize=(11, 4.6), sharex=True, sharey=True, layout="constrained")
    panels = list(grid.flat)
    for axes, category in zip(panels, HARM_CATEGORIES, strict=False):
        draw_category(axes, category, [record for record in records if record.category == category])
    panels[-1].axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False, fontsize=9)
    figure.supxlabel("GRPO step", fontsize=9)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
