"""Writes the report: chooses what is shown; `plots.py` draws, `report.html.jinja` lays out."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES, colours
from dr_irl.evaluation.suites import HARMFUL, suites, to_answer, to_refuse
from dr_irl.records import Answer, ScalingRecord, StepRecord
from dr_irl.report import plots
from dr_irl.report.data import ReportData
from dr_irl.report.reward_section import present_rewards, same_pairs
from dr_irl.results.summaries import BalanceSummary, ModelSummary, Rate

Answers = Mapping[str, list[Answer]]
"""Model name -> its answers."""
SideBySide = list[tuple[str, Answer]]
"""One prompt: the models that answered it, with their answers."""

_OPEN_SAMPLES = 12
_HARMFUL_SAMPLES = 3
_UNMEASURED = "–"
_FACTORS = ("data", "model", "alpha")


@dataclass(frozen=True, slots=True)
class _Metric:
    """How one name that GRPO logs is shown."""

    title: str
    note: str
    share: bool = False
    leading: bool = True
    """Shown openly; the others are folded."""


_METRICS = {
    "reward": _Metric("Reward", "calibrated, mean of completions"),
    "refusal": _Metric("Refusals", "share of sampled completions", share=True),
    "kl": _Metric("KL divergence", "from the starting policy"),
    "entropy": _Metric("Entropy", "nats per token"),
    "length_tokens": _Metric("Completion length", "tokens"),
    "commonest_prefix": _Metric("Commonest opening", "share that begins alike", share=True),
    "zero_variance": _Metric("Groups without variance", "share of prompts, no signal", share=True),
    "gap": _Metric("Reward gap", "demonstration minus completion"),
    "loss": _Metric("Loss", "surrogate and KL penalty", leading=False),
    "grad_norm": _Metric("Gradient norm", "before clipping", leading=False),
    "truncated": _Metric("Truncated", "share cut off by the length limit", share=True, leading=False),
    "seconds_sampling": _Metric("Sampling", "seconds per step", leading=False),
    "seconds_scoring": _Metric("Scoring", "seconds per step", leading=False),
    "seconds_scaling": _Metric("Scaling", "seconds per step", leading=False),
    "seconds_learning": _Metric("Learning", "seconds per step", leading=False),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One small plot with its heading and a reading of its first and last value."""

    title: str
    note: str
    colour: str
    first: float
    last: float
    share: bool
    leading: bool
    plot: Markup


_NOTES = {"warm start": "not part of the method", "champion": "in use so far"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model with what the page says of it."""

    summary: ModelSummary
    colour: str
    note: str
    """Why it stands beside the method's own models; empty for those."""


def write_report(data: ReportData, path: Path) -> None:
    """Write one HTML file that needs neither network nor script; equal data give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A model can emit half a surrogate pair, which UTF-8 cannot carry.
    path.write_bytes(render_report(data).encode("utf-8", errors="replace"))


def render_report(data: ReportData) -> str:
    """Return the report's HTML."""
    environment = Environment(
        loader=PackageLoader("dr_irl.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "seconds": seconds, "p_value": p_value}
    environment.filters |= {"label": plots.category_label, "colour": plots.category_colour, "suite": suite_label}
    environment.filters["same_pairs"] = same_pairs
    environment.tests["finite"] = math.isfinite
    models = present_models(data.models)
    return environment.get_template("report.html.jinja").render(
        data=data,
        models=models,
        harmful=HARMFUL,
        to_refuse=to_refuse(),
        to_answer=to_answer(),
        light_colours=_style(0),
        dark_colours=_style(1),
        model_colours={model.summary.name: model.colour for model in models},
        refusal_categories=_in_order(name for model in data.models for name in model.refusal),
        balance_categories=list(dict.fromkeys([*data.balance.before, *data.balance.after])),
        cross_categories=list(dict.fromkeys(name for row in data.cross_accuracy.values() for name in row)),
        balance_plot=_balance_plot(data.balance),
        rewards=present_rewards(data.rewards, data.settings),
        refusal_plot=plots.refusal_bars(data.models) if data.models else None,
        panels=step_panels(data.steps),
        grpo_categories=_in_order(step.category for step in data.steps),
        longest_stage=max(filter(math.isfinite, data.stage_seconds.values()), default=0.0),
        scaling=scaling_panels(data.scaling),
        open_samples={suite.title: samples(data.answers, suite.name) for suite in to_answer()},
        harmful_samples=harmful_samples(data.answers),
        settings=flatten(data.settings),
        machine=_machine(data.environment),
    )


def _style(page: int) -> str:
    """Set the variables that the labels are drawn in, on a light page (0) or a dark one (1)."""
    return " ".join(f"--{plots.category_colour(label)}: {colours(label)[page]};" for label in ALL_LABELS)


def present_models(models: Sequence[ModelSummary]) -> list[Model]:
    """Give every model its colour, and mark those that the method does not make."""
    return [
        Model(model, plots.model_colour(index, len(models)), _NOTES.get(model.name, ""))
        for index, model in enumerate(models)
    ]


def step_panels(steps: Sequence[StepRecord]) -> list[Panel]:
    """Make one panel per logged name that has a finite value: known names in reading order, others after them."""
    panels = []
    for name in [*_METRICS, *sorted({step.name for step in steps} - set(_METRICS))]:
        curves = plots.series_by_category(steps, name)
        if not curves:
            continue
        metric = _METRICS.get(name) or _Metric(name.replace("_", " ").capitalize(), "", leading=False)
        main = curves.get("all") or next(iter(curves.values()))
        panels.append(
            Panel(
                title=metric.title,
                note=metric.note,
                colour="",
                first=main[0][1],
                last=main[-1][1],
                share=metric.share,
                leading=metric.leading,
                plot=plots.step_curves(name, curves, share=metric.share),
            )
        )
    return panels


def scaling_panels(records: Sequence[ScalingRecord]) -> list[Panel]:
    """Make one panel per category, all on one scale; the reading is the range of alpha."""
    drawn = [r for r in records if all(math.isfinite(getattr(r, factor)) for factor in _FACTORS)]
    if not drawn:
        return []
    values = [getattr(record, factor) for record in drawn for factor in _FACTORS]
    margin = 0.05 * (max(values) - min(values)) + 0.01
    limits = (min(*values, 1.0) - margin, max(*values, 1.0) + margin)
    panels = []
    for category in _in_order(record.category for record in drawn):
        rows = [record for record in drawn if record.category == category]
        alphas = [record.alpha for record in rows]
        plot = plots.scaling_curves(rows, category, limits)
        colour = plots.category_colour(category)
        title = plots.category_label(category)
        panels.append(Panel(title, "", colour, min(alphas), max(alphas), share=False, leading=True, plot=plot))
    return panels


def samples(answers: Answers, suite: str) -> list[SideBySide]:
    """Choose prompts of an open suite, evenly spread, each with every model's answer."""
    return _side_by_side(answers, lambda answer: _is_open(answer) and answer.suite == suite, _OPEN_SAMPLES)


def harmful_samples(answers: Answers) -> dict[str, list[SideBySide]]:
    """Choose a few prompts per category of everything that is not shown openly."""
    hidden = (answer.category for rows in answers.values() for answer in rows if not _is_open(answer))
    return {category: _side_by_side(answers, _hidden_in(category), _HARMFUL_SAMPLES) for category in _in_order(hidden)}


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Take `count` items at even distances, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(at * (len(items) - 1) / (count - 1))] for at in range(count)]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Turn nested settings into pairs of dotted name and value."""
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            pairs.append((f"{prefix}{name}", text))
    return pairs


def suite_label(suite: str) -> str:
    """Return a suite's name as a reader sees it."""
    titles = {each.name: each.title for each in suites()}
    return titles.get(suite) or suite.replace("_", " ").capitalize()


def percent(value: float | int | Rate | None, digits: int = 1) -> str:
    """Format a share; a dash where it was not measured."""
    share = value.value if isinstance(value, Rate) else value
    return _UNMEASURED if share is None or not math.isfinite(share) else f"{number(100 * share, digits)} %"


def number(value: float | int | None, digits: int = 2) -> str:
    """Format a number with a real minus sign, small or huge ones by exponent; a dash where it is not finite."""
    if value is None or not math.isfinite(value):
        return _UNMEASURED
    plain = value == 0 or 0.5 * 10**-digits <= abs(value) < 1e7
    return (f"{value:,.{digits}f}" if plain else f"{value:.1e}").replace("-", "−")


def seconds(value: float | int) -> str:
    """Format a duration."""
    if not math.isfinite(value):
        return _UNMEASURED
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def p_value(value: float | int) -> str:
    """Format a p-value."""
    if not math.isfinite(value):
        return _UNMEASURED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _is_open(answer: Answer) -> bool:
    """Tell whether a prompt may be shown openly, as those to be answered; what is not known to be harmless may not."""
    return answer.category == BENIGN and answer.suite in {suite.name for suite in to_answer()}


def _hidden_in(category: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.category == category and not _is_open(answer)


def _side_by_side(answers: Answers, wanted: Callable[[Answer], bool], count: int) -> list[SideBySide]:
    found: dict[tuple[str, str, str], SideBySide] = {}
    for model, rows in answers.items():
        for answer in filter(wanted, rows):
            found.setdefault((answer.suite, answer.prompt_id, answer.prompt), []).append((model, answer))
    return spread(list(found.values()), count)


def _balance_plot(balance: BalanceSummary) -> Markup | None:
    return plots.balance_bars(balance.before, balance.after) if balance.before or balance.after else None


def _in_order(names: Iterable[str]) -> list[str]:
    """Return the distinct names: harm categories in their usual order, then others, `all` last."""
    distinct = list(dict.fromkeys(names))
    known = [name for name in HARM_CATEGORIES if name in distinct]
    others = [name for name in distinct if name not in known and name != "all"]
    return known + others + [name for name in distinct if name == "all"]


def _machine(environment: Mapping[str, str]) -> str:
    parts = [environment[key] for key in ("machine", "device") if environment.get(key)]
    return ", ".join(parts) or environment.get("platform", "not recorded")
