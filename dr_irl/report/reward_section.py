"""What the report's section on reward models shows: its tables' columns, its plots, its formulas."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from dr_irl.report.plots import (
    BARS_WIDTH,
    STAND_INS,
    Series,
    category_colour,
    category_label,
    draw_curve,
    draw_plot,
    finite,
    is_dashed,
    set_share_axis,
)
from dr_irl.results.summaries import LearningPoint, RewardSummary
from dr_irl.reward.objectives import OBJECTIVES

_LEARNING_SIZE = (250, 230)


@dataclass(frozen=True, slots=True)
class Formula:
    """One equation of the section, and the functions that compute it."""

    name: str
    text: str
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LearningPanel:
    """One reward model's learning curves, and which epoch they led to."""

    title: str
    colour: str
    kept: LearningPoint | None
    kept_epoch: int
    """Counted from 1, over all rounds."""
    epochs: int
    rounds: int
    plot: Markup


@dataclass(frozen=True, slots=True)
class RewardSection:
    """What the section shows besides the summaries themselves."""

    hard_kinds: list[str]
    """Kinds of hard negatives that were scored, without `all`."""
    rules: list[str]
    single_unseen: bool
    """Whether the single model was scored on completions; so for `single_hard`."""
    single_hard: bool
    warned: bool
    several_rounds: bool
    """Whether any model had more than one round of inverse RL."""
    loss_plot: Markup | None
    learning: list[LearningPanel]
    formulas: list[Formula]


_LOSSES = {
    "ml_irl": Formula(
        "Loss, maximum-likelihood inverse RL",
        "−log [ exp(R(x, y)/β) / (exp(R(x, y)/β) + Σₖ wₖ exp(R(x, oₖ)/β)) ], mean over prompts",
        ("dr_irl.reward.losses.ml_irl_loss",),
    ),
    "pairwise": Formula(
        "Loss, each pair on its own",
        "−log s((R(x, y) − R(x, oₖ)) / β), mean over prompts and answers; s is the logistic function",
        ("dr_irl.reward.losses.pairwise_loss",),
    ),
    "minimax": Formula(
        "Loss, minimax",
        "mean R(x, o) − mean R(x, y) + penalty · (mean R(x, y)² + mean R(x, o)²)",
        ("dr_irl.reward.losses.minimax_loss",),
    ),
}
_DRAWING_ANEW = Formula(
    "Later rounds",
    "oₖ is drawn with P(k) = exp(Rₖ/β) / Σₗ exp(Rₗ/β) and weighs wₖ = meanₗ exp(Rₗ/β) / exp(Rₖ/β); before, wₖ = 1",
    ("dr_irl.reward.resample.resample",),
)
_READINGS = (
    Formula(
        "Calibration",
        "(R − mean) / standard deviation, both over all answers of the validation rows",
        ("dr_irl.reward.outcome.calibrate", "dr_irl.reward.panel.RewardPanel.score"),
    ),
    Formula(
        "Gap",
        "g = R(x, y) − R(x, o), calibrated; its mean with Student's 95 % interval",
        ("dr_irl.reward.readings.gap", "dr_irl.results.statistics.mean_interval"),
    ),
    Formula(
        "Accuracy",
        "share of pairs (y, o) with g > 0; a tie is no win; with Wilson's 95 % interval",
        ("dr_irl.reward.readings.accuracy", "dr_irl.results.statistics.wilson_interval"),
    ),
    Formula(
        "Correlation with length",
        "Spearman's rank correlation of R and the number of scored tokens, over both answers of pairs with completions",
        ("dr_irl.reward.readings.length_correlation",),
    ),
    Formula(
        "Warnings",
        "a rule of thumb wins at least as many pairs as the model, or length goes with reward",
        ("dr_irl.reward.readings.warnings",),
    ),
)


def present_rewards(rewards: Sequence[RewardSummary], settings: Mapping[str, object]) -> RewardSection:
    """Choose the columns, plots and formulas; what no model has is left out."""
    several_rounds = any(point.round for reward in rewards for point in reward.curve)
    return RewardSection(
        hard_kinds=[kind for kind in _distinct(reward.hard_accuracy for reward in rewards) if kind != "all"],
        rules=_distinct(reward.rules for reward in rewards),
        single_unseen=any(reward.single_unseen is not None for reward in rewards),
        single_hard=any(reward.single_hard is not None for reward in rewards),
        warned=any(reward.warnings for reward in rewards),
        several_rounds=several_rounds,
        loss_plot=loss_curves(rewards) if any(reward.loss for reward in rewards) else None,
        learning=learning_panels(rewards),
        formulas=formulas(settings, drawn_anew=several_rounds),
    )


def formulas(settings: Mapping[str, object], *, drawn_anew: bool) -> list[Formula]:
    """Return the section's formulas; the loss is the one that the settings name, by default `ml_irl`."""
    options = settings.get("reward")
    name = options.get("objective") if isinstance(options, Mapping) else None
    return [_loss(str(name)) if name else _LOSSES["ml_irl"], *([_DRAWING_ANEW] if drawn_anew else []), *_READINGS]


def _loss(name: str) -> Formula:
    """Return the formula of a loss; of one that another package brings, where it is defined."""
    defined = OBJECTIVES.entries.get(name, name).replace(":", ".")
    return _LOSSES.get(name) or Formula(f"Loss, {name}", "as the package that brings it defines it", (defined,))


def same_pairs(reward: RewardSummary) -> tuple[int, int]:
    """Return how many pairs the model wins, and of how many: those that the rules of thumb are tried on."""
    rates = [reward.unseen_accuracy, *(rate for kind, rate in reward.hard_accuracy.items() if kind == "all")]
    return sum(rate.hits for rate in rates), sum(rate.count for rate in rates)


def loss_curves(rewards: Sequence[RewardSummary]) -> Markup:
    """Draw the training loss of every reward model."""

    def paint(axes: Axes) -> None:
        for reward in rewards:
            points = finite(enumerate(reward.loss))
            draw_curve(axes, points, category_colour(reward.category), dashed=is_dashed(reward.category))
        axes.set_xlabel("optimiser step")

    return draw_plot("loss", (BARS_WIDTH, 290), "Curves: training loss of each reward model over its steps.", paint)


def learning_panels(rewards: Sequence[RewardSummary]) -> list[LearningPanel]:
    """Make one panel per reward model that has a learning curve; all share their scales."""
    points = [point for reward in rewards for point in reward.curve]
    losses = [value for point in points for value in (point.loss, point.validation_loss) if math.isfinite(value)]
    margin = 0.05 * (max(losses) - min(losses)) + 0.01 if losses else 0.0
    limits = (min(losses) - margin, max(losses) + margin) if losses else (0.0, 1.0)
    panels: list[LearningPanel] = []
    for reward in (reward for reward in rewards if reward.curve):
        kept = [(epoch, point) for epoch, point in enumerate(reward.curve, start=1) if point.kept]
        panels.append(
            LearningPanel(
                title=category_label(reward.category),
                colour=category_colour(reward.category),
                kept=kept[0][1] if kept else None,
                kept_epoch=kept[0][0] if kept else 0,
                epochs=len(reward.curve),
                rounds=1 + max(point.round for point in reward.curve),
                plot=learning_curves(reward.curve, reward.category, limits),
            )
        )
    return panels


def learning_curves(curve: Sequence[LearningPoint], category: str, limits: tuple[float, float]) -> Markup:
    """Draw one model's accuracy and losses by epoch: a ring marks the epoch that was kept, bands tell rounds apart."""

    def paint_accuracy(axes: Axes) -> None:
        _draw_rounds(axes, curve, numbered=True)
        axes.axhline(0.5, color=STAND_INS["muted"], linewidth=0.8, linestyle=(0, (2, 2)))
        _draw_epochs(axes, curve, category, lambda point: point.accuracy)
        set_share_axis(axes, (0.0, 0.5, 1.0))

    def paint_loss(axes: Axes) -> None:
        _draw_rounds(axes, curve, numbered=False)
        training = _by_epoch(curve, lambda point: point.loss)
        axes.plot(*zip(*training, strict=True), color=STAND_INS["muted"], linewidth=0.9) if training else None
        _draw_epochs(axes, curve, category, lambda point: point.validation_loss)
        axes.set_ylim(*limits)
        axes.set_xlim(0.5, len(curve) + 0.5)
        axes.set_xlabel("epoch")

    alt = f"Curves: validation accuracy and losses of {category_label(category)} by epoch; a ring marks the kept one."
    return draw_plot(f"learning-{category}", _LEARNING_SIZE, alt, paint_accuracy, paint_loss)


def _draw_epochs(
    axes: Axes, curve: Sequence[LearningPoint], category: str, value: Callable[[LearningPoint], float]
) -> None:
    """Draw one value per epoch, and a ring around the one that was kept."""
    xs, ys = ([pair[side] for pair in _by_epoch(curve, value)] for side in (0, 1))
    style = (0, (3, 1.5)) if is_dashed(category) else "-"
    colour = STAND_INS[category_colour(category)]
    axes.plot(xs, ys, color=colour, linewidth=1.3, linestyle=style, marker="o", markersize=3)
    for epoch, point in enumerate(curve, start=1):
        if point.kept and math.isfinite(value(point)):
            axes.plot([epoch], [value(point)], "o", markersize=9, fillstyle="none", color=STAND_INS["ink"])


def _draw_rounds(axes: Axes, curve: Sequence[LearningPoint], *, numbered: bool) -> None:
    """Shade every other round of inverse RL, and number all of them from 1, if there is more than one."""
    rounds = sorted({point.round for point in curve})
    if len(rounds) < 2:
        return
    for number in rounds:
        epochs = [epoch for epoch, point in enumerate(curve, start=1) if point.round == number]
        start, end = min(epochs) - 0.5, max(epochs) + 0.5
        if number % 2:
            axes.axvspan(start, end, color=STAND_INS["line"], alpha=0.5, linewidth=0)
        if numbered:
            where = axes.get_xaxis_transform()
            axes.text((start + end) / 2, 1.02, f"round {number + 1}", transform=where, ha="center", fontsize=8)


def _by_epoch(curve: Sequence[LearningPoint], value: Callable[[LearningPoint], float]) -> Series:
    """Return the finite values by epoch, counted from 1."""
    return finite((epoch, value(point)) for epoch, point in enumerate(curve, start=1))


def _distinct(tables: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))
