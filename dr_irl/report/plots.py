"""The report's plots: SVG whose colours are CSS variables, so that one drawing serves light and dark pages."""

import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from html import escape
from threading import Lock
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES, SINGLE, harm_category
from dr_irl.records import ScalingRecord, StepRecord
from dr_irl.results.summaries import ModelSummary

Series = list[tuple[int, float]]

MODEL_COLOURS = 5
_TOKENS = ["ink", "muted", "line", "data", "model", "alpha"]
_TOKENS += [f"m{index}" for index in range(1, MODEL_COLOURS + 1)] + [f"c{n + 1}" for n in range(len(ALL_LABELS))]
# Each variable is drawn in a colour that nothing else uses, and the colour is replaced by the variable afterwards.
STAND_INS = {token: f"#0101{number:02x}" for number, token in enumerate(_TOKENS, start=1)}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dr-irl",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": STAND_INS["ink"],
    "axes.labelcolor": STAND_INS["muted"],
    "axes.edgecolor": STAND_INS["line"],
    "axes.linewidth": 1,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "figure.facecolor": "none",
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 0.8,
    "xtick.color": STAND_INS["line"],
    "ytick.color": STAND_INS["line"],
    "xtick.labelcolor": STAND_INS["muted"],
    "ytick.labelcolor": STAND_INS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
}
_DRAWING = Lock()
_LABELS = {"all": "All harm categories", SINGLE: "One model for all"}
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
BARS_WIDTH = 380
PANEL_SIZE = (250, 150)


def category_label(category: str) -> str:
    """Return the name of a category, or of the model that is for all of them, as a reader sees it."""
    if category in HARM_CATEGORIES:
        return harm_category(category).title
    return _LABELS.get(category) or category.replace("_", " ").capitalize()


def shorten(label: str, characters: int = 28) -> str:
    """Cut a label that would leave its plot no room."""
    return label if len(label) <= characters else f"{label[: characters - 1]}…"


def category_colour(category: str) -> str:
    """Return the CSS variable of a category's colour: `c1` and so on, `ink` for `all`, `muted` for an unknown one."""
    if category in ALL_LABELS:
        return f"c{ALL_LABELS.index(category) + 1}"
    return "ink" if category == "all" else "muted"


def model_colour(index: int, count: int) -> str:
    """Return the CSS variable of a model's colour: the last one is always `m2`, the first `m1`."""
    if index == 0:
        return "m1"
    return "m2" if index == count - 1 else f"m{3 + (index - 1) % (MODEL_COLOURS - 2)}"


def balance_bars(before: dict[str, int], after: dict[str, int]) -> Markup:
    """Draw the category counts before and after balancing."""
    names = list(dict.fromkeys([*before, *after]))
    counts = [[float(table.get(name, 0)) for name in names] for table in (before, after)]

    def paint(axes: Axes) -> None:
        _grouped_bars(axes, names, counts, ["m1", "m2"])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

    height = 40 + 26 * max(1, len(names))
    return draw_plot("balance", (BARS_WIDTH, height), "Bars: rows per category before and after balancing.", paint)


def refusal_bars(models: Sequence[ModelSummary]) -> Markup:
    """Draw the refusal rate of every category and model, with whiskers over the 95 % interval."""
    names = list(dict.fromkeys(name for model in models for name in model.refusal))
    names = [name for name in names if name != "all"] + [name for name in names if name == "all"]
    colours = [model_colour(index, len(models)) for index in range(len(models))]

    def paint(axes: Axes) -> None:
        rates = [[model.refusal.get(name) for name in names] for model in models]
        values = [[rate.value if rate else math.nan for rate in row] for row in rates]
        ends = [[(rate.low, rate.high) if rate and rate.count else None for rate in row] for row in rates]
        _grouped_bars(axes, names, values, colours, ends)
        axes.set_xlim(0, 1.02)
        axes.set_xticks(_QUARTERS)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))

    height = 40 + len(names) * (12 * len(models) + 14)
    alt = "Bars with whiskers: share of held-out harmful prompts refused, by category and model."
    return draw_plot("refusal", (BARS_WIDTH, max(height, 80)), alt, paint)


def step_curves(name: str, curves: dict[str, Series], *, share: bool) -> Markup:
    """Draw one logged number over the steps, one curve per category; `share` fixes the axis to 0..100 %."""

    def paint(axes: Axes) -> None:
        for category, points in curves.items():
            if category == "all":
                xs, ys = zip(*points, strict=True)
                axes.plot(xs, ys, color=STAND_INS["ink"], alpha=0.25, linewidth=0.8)
            draw_curve(axes, points, category_colour(category), dashed=is_dashed(category), bold=category == "all")
        if share:
            set_share_axis(axes, _QUARTERS)

    return draw_plot(
        f"step-{name}", PANEL_SIZE, f"Curves: {name.replace('_', ' ')} over the steps, by category.", paint
    )


def scaling_curves(records: Iterable[ScalingRecord], category: str, limits: tuple[float, float]) -> Markup:
    """Draw aD, aM and their combination for one category: the mean of each step, in a band from least to greatest."""
    steps: dict[int, list[ScalingRecord]] = defaultdict(list)
    for record in records:
        if record.category == category:
            steps[record.step].append(record)

    def paint(axes: Axes) -> None:
        axes.axhline(1.0, color=STAND_INS["muted"], linewidth=0.8, linestyle=(0, (2, 2)))
        for factor in ("data", "model", "alpha"):
            rows = [(step, [getattr(row, factor) for row in steps[step]]) for step in sorted(steps)]
            _banded(axes, [(step, values) for step, values in rows if all(map(math.isfinite, values))], factor)
        axes.set_ylim(*limits)

    alt = f"Curves: the scaling factors aD, aM and alpha of {category_label(category)} over the steps."
    return draw_plot(f"scaling-{category}", PANEL_SIZE, alt, paint)


def series_by_category(steps: Iterable[StepRecord], name: str) -> dict[str, Series]:
    """Return the finite values of one name by category: categories in their usual order, `all` last, empty ones out."""
    found: dict[str, Series] = defaultdict(list)
    for record in steps:
        if record.name == name:
            found[record.category].append((record.step, float(record.value)))
    order = sorted(
        found, key=lambda category: (category == "all", category not in ALL_LABELS, _rank(category), category)
    )
    return {category: points for category in order if (points := finite(sorted(found[category])))}


def finite(points: Iterable[tuple[int, float]]) -> Series:
    """Leave out the points whose value is NaN or infinite."""
    return [(step, value) for step, value in points if math.isfinite(value)]


def moving_mean(values: Sequence[float]) -> list[float]:
    """Return the centred moving mean over about a twelfth of the values; its window shrinks at the ends."""
    reach = len(values) // 24
    windows = [values[max(0, at - reach) : at + reach + 1] for at in range(len(values))]
    return [math.fsum(window) / len(window) for window in windows]


def is_dashed(category: str) -> bool:
    """Tell whether a category's curve is dashed: that of ordinary prompts, which are no harm."""
    return category == BENIGN


def draw_curve(axes: Axes, points: Series, token: str, *, dashed: bool = False, bold: bool = False) -> None:
    """Draw the moving mean of some points, if there are any."""
    if not points:
        return
    xs = [step for step, _ in points]
    ys = moving_mean([value for _, value in points])
    axes.plot(
        xs,
        ys,
        color=STAND_INS[token],
        linewidth=2.2 if bold else 1.3,
        linestyle=(0, (3, 1.5)) if dashed else "-",
        # A line through a single point has no length.
        marker="o" if len(xs) == 1 else None,
        markersize=5,
    )


def set_share_axis(axes: Axes, ticks: Sequence[float]) -> None:
    """Let the vertical axis run from 0 to 100 %."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def draw_plot(name: str, size: tuple[int, int], alt: str, *paints: Callable[[Axes], None]) -> Markup:
    """Draw one plot of so many CSS pixels; several paints are put one below the other, over one horizontal axis.

    matplotlib's settings are global, so threads take turns.
    """
    with _DRAWING, matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        FigureCanvasSVG(figure)
        stack = figure.subplots(len(paints), sharex=True, squeeze=False)
        for axes, paint in zip(stack[:, 0], paints, strict=True):
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axes.margins(x=0.02)
            paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, alt)


def _rank(category: str) -> int:
    return ALL_LABELS.index(category) if category in ALL_LABELS else len(ALL_LABELS)


def _banded(axes: Axes, rows: list[tuple[int, list[float]]], factor: str) -> None:
    xs = [step for step, _ in rows]
    means = [(step, math.fsum(values) / len(values)) for step, values in rows]
    axes.fill_between(
        xs,
        moving_mean([min(values) for _, values in rows]),
        moving_mean([max(values) for _, values in rows]),
        color=STAND_INS[factor],
        alpha=0.18,
        linewidth=0,
    )
    draw_curve(axes, means, factor, bold=factor == "alpha")


def _grouped_bars(
    axes: Axes,
    names: list[str],
    values: list[list[float]],
    tokens: list[str],
    ends: list[list[tuple[float, float] | None]] | None = None,
) -> None:
    """Draw horizontal bars, one group per name from the top down; `ends` are the whiskers."""
    thickness = 0.76 / max(1, len(values))
    for row, (lengths, token) in enumerate(zip(values, tokens, strict=True)):
        heights = [group - 0.38 + thickness * (row + 0.5) for group in range(len(names))]
        axes.barh(heights, lengths, thickness * 0.86, color=STAND_INS[token], linewidth=0)
        whiskers = ends[row] if ends else []
        for height, pair in zip(heights, whiskers, strict=False):
            if pair:
                axes.plot(pair, [height, height], color=STAND_INS["ink"], linewidth=1.1, solid_capstyle="butt")
    axes.set_yticks(range(len(names)), [shorten(category_label(name)) for name in names])
    axes.tick_params(axis="y", labelcolor=STAND_INS["ink"])
    axes.set_ylim(max(len(names), 1) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")


def _inline(svg: str, name: str, alt: str) -> Markup:
    """Cut the document's head off, put variables for colours, and make ids unique on the page."""
    prefix = re.sub(r"[^a-z0-9]+", "-", name.lower())
    svg = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    for token, stand_in in STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{token})")
    svg = re.sub(r'(\bid="|\bhref="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))
