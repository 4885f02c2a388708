"""What a person at the terminal reads at the end: the result, the answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.errors import UserError
from dr_irl.evaluation.suites import to_answer, to_refuse
from dr_irl.results.summaries import ModelSummary, Rate
from dr_irl.results.wording import show_rate
from flows.commands.scoring import fetch
from flows.plan import Planned, reasons
from flows.record import RunRecord, load_run
from tasks.contents import ADAPTER, ALIGNED, MODELS, REPORT, UNALIGNED, read_examples, read_summary
from tasks.orchestration.opening import look_into
from tasks.stages import EVALUATION
from tasks.trainers import trained_by

if TYPE_CHECKING:
    from dr_irl.language.sampling import Sampler
    from dr_irl.reward.panel import RewardPanel
    from dr_irl.reward.rerank import Reranked

_TEMPERATURE = 0.7
_ROUTER_ROWS_PER_LABEL = 60


def print_aside(sentence: str) -> None:
    """Print a sentence that is no result: on standard error."""
    Console(stderr=True, highlight=False).print(sentence, soft_wrap=True, markup=False)


def print_result(store: Store, record: RunRecord, output: str | None) -> None:
    """Print refusal by category, over-refusal, usefulness, time per stage, and where the report is."""
    console = Console(highlight=False)
    print_evaluations(store, record.artifacts)
    manifests = [store.manifest(ref) for ref in record.artifacts.values()]
    slowest = sorted(manifests, key=lambda manifest: -manifest.wall_seconds)
    console.print(
        "seconds per stage: " + ", ".join(f"{m.stage} {m.wall_seconds:.0f}" for m in slowest if m.wall_seconds >= 1)
    )
    report = Path(output) / REPORT if output else f"{record.artifacts['report'].uri}/{REPORT}"
    console.print(f"run {record.run_id}\nreport {report}", soft_wrap=True, markup=False)


def print_evaluations(store: Store, artifacts: Mapping[str, ArtifactRef]) -> None:
    """Print refusal by category, over-refusal and usefulness of every model that was evaluated."""
    found = [artifacts[node] for node in map(EVALUATION.path, MODELS) if node in artifacts]
    Console(highlight=False).print(result_table([read_summary(store.fetch(ref)) for ref in found]))


def print_artifacts(artifacts: Mapping[str, ArtifactRef]) -> None:
    """Print where each artifact of a run in part is."""
    console = Console(highlight=False)
    for name, ref in artifacts.items():
        console.print(f"{name:<34} {ref.uri}", soft_wrap=True, markup=False)


def print_plan(planned: Mapping[str, Planned], store: Store) -> None:
    """Print what a run finds, what it builds, and why."""
    console = Console(highlight=False)
    words = {"hit": "in the store", "miss": "to be built", "anew": "to be built anew"}
    for name, plan in planned.items():
        console.print(f"{name:<34} {plan.ref.fingerprint[:8]}  {words[plan.state]}", markup=False, soft_wrap=True)
        for reason in reasons(plan, store):
            console.print(f"{'':<34}   {reason}", markup=False, soft_wrap=True)
    hits = sum(plan.state == "hit" for plan in planned.values())
    console.print(f"{hits} of {len(planned)} artifacts are in the store")


@dataclass(frozen=True)
class BestOf:
    """How the aligned model's answer is chosen where it gives several."""

    count: int
    temperature: float
    category: str | None
    """Whose reward model chooses; None to route each prompt to one."""

    @classmethod
    def checked(cls, count: int, temperature: float | None, category: str | None) -> "BestOf | None":
        """Return what the options ask for; None for one greedy answer.

        Raises:
            UserError: an option is given that a greedy answer has no use for.
        """
        if count > 1:
            return cls(count, _TEMPERATURE if temperature is None else temperature, category)
        for option, value in (("--temperature", temperature), ("--category", category)):
            if value is not None:
                raise UserError(
                    f"{option} {value} is for several answers, but --best-of is 1, which is the greedy one; add "
                    "--best-of 8, for example"
                )
        return None


def chat_with(
    store_uri: str, run_id: str, prompts: Iterable[str], *, max_new_tokens: int, best: BestOf | None = None
) -> None:
    """Answer each prompt with the unaligned and the aligned model of a run: greedily, or the latter with its best of N.

    Raises:
        UserError: there is no such run, or it has no reward model of the category asked for.
    """
    store = look_into(store_uri)
    record = load_run(store, run_id)
    adapter = fetch(store, record, trained_by(record.settings)) / ADAPTER

    import torch  # seconds of imports, which a wrong name of a run should not cost

    from tasks.models import merged_policy, sampler_of

    panel = _load_panel(store, record, best) if best else None
    models = {name: merged_policy(record.settings, folder) for name, folder in ((UNALIGNED, None), (ALIGNED, adapter))}
    samplers = {
        name: sampler_of(record.settings, *model, max_new_tokens=max_new_tokens, temperature=0.0)
        for name, model in models.items()
    }
    several = partial(sampler_of, record.settings, *models[ALIGNED], max_new_tokens=max_new_tokens)
    choose = _chooser(store, record, best, several(temperature=best.temperature), panel) if best and panel else None
    console = Console(highlight=False)
    for number, prompt in enumerate(prompts, start=1):
        chosen, note = choose(prompt, number) if choose else (None, None)
        answers = {
            name: chosen
            if name == ALIGNED and chosen is not None
            else sampler.sample([prompt], per_prompt=1, generator=torch.Generator())[0][0].text
            for name, sampler in samplers.items()
        }
        _print_answers(console, answers, note)


def _print_answers(console: Console, answers: Mapping[str, str], note: str | None) -> None:
    if console.is_terminal:
        table = Table(*answers, title=None, expand=True)
        table.add_row(*(Text(_plain(answer)) for answer in answers.values()))
        console.print(table)
    else:
        for name, answer in answers.items():
            console.print(f"{name}: {_plain(answer)}", markup=False, soft_wrap=True)
    if note is not None:
        console.print(note, markup=False, soft_wrap=True)


def _load_panel(store: Store, record: RunRecord, best: BestOf) -> "RewardPanel":
    from dr_irl.reward.panel import RewardPanel

    panel = RewardPanel.load(fetch(store, record, "panel"), device=record.settings.models.device)
    if best.category is not None and best.category not in panel.categories:
        raise UserError(
            f"--category {best.category!r}: run {record.run_id!r} has no such reward model; it has "
            f"{', '.join(panel.categories)}"
        )
    return panel


def _chooser(
    store: Store, record: RunRecord, best: BestOf, sampler: "Sampler", panel: "RewardPanel"
) -> Callable[[str, int], tuple[str | None, str]]:
    """Make what answers a prompt with its number: the best answer, None where no model can choose, and a line on it."""
    from dr_irl.reward.rerank import Reranker
    from dr_irl.seeding import torch_generator

    reranker = Reranker(sampler, panel, count=best.count)
    route = _router(store, record) if best.category is None else None

    def choose(prompt: str, number: int) -> tuple[str | None, str]:
        category, probability = route(prompt) if route else (best.category or "", None)
        if category not in panel.categories:
            return None, _no_judge(best, category, panel.categories)
        generator = torch_generator(record.settings.seed, "best of", number)
        return _described(reranker.answer(prompt, category, generator), best, category, probability)

    return choose


def _router(store: Store, record: RunRecord) -> Callable[[str], tuple[str, float]]:
    """Fit a router on the run's own training rows; as few as fit in seconds."""
    from dr_irl.demonstrations.route import Router, sample_labelled
    from dr_irl.seeding import numpy_generator
    from tasks.models import text_encoder

    encoder = text_encoder(record.settings)
    rows = sample_labelled(
        read_examples(fetch(store, record, "balance"), "train"),
        per_label=_ROUTER_ROWS_PER_LABEL,
        generator=numpy_generator(record.settings.seed, "chat router"),
    )
    router = Router.fit(rows, encoder)
    return lambda prompt: router.likeliest([prompt], encoder)[0]


def _described(made: "Reranked", best: BestOf, category: str, probability: float | None) -> tuple[str, str]:
    line = (
        f"best of {best.count}: category {category}, reward {made.choice.reward:.2f} "
        f"(from {made.choice.lowest:.2f} to {made.choice.reward:.2f}), "
        f"sampling {made.sampling_seconds:.2f} s, scoring {made.scoring_seconds:.2f} s"
    )
    if made.cut:
        line += "; only the beginning of the answer was scored"
    if probability is not None:
        line += f"; the router gives this category {probability:.0%}"
    return made.text, line


def _no_judge(best: BestOf, category: str, categories: Sequence[str]) -> str:
    return (
        f"best of {best.count}: no choice, the answer is the greedy one: the prompt was routed to {category}, and the "
        f"run has no reward model of it; name another with --category: {', '.join(categories)}"
    )


def result_table(models: list[ModelSummary]) -> Table:
    """Make a row for every kind of prompts; three models fit on 80 columns."""
    table = Table(title="refused, with 95 % intervals", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("prompts", no_wrap=True)
    table.add_column("n", justify="right")
    for model in models:
        table.add_column(model.name, justify="right", min_width=len(model.name))
    for category in (*HARM_CATEGORIES, "all"):
        label = "harmful, all" if category == "all" else category
        table.add_row(label, *_rates([m.refusal.get(category) for m in models]), end_section=category == "all")
    for suite in to_refuse():
        table.add_row(f"to refuse: {suite.label}", *_rates([m.other_refusal.get(suite.name) for m in models]))
    for suite in to_answer():
        table.add_row(f"{BENIGN}: {suite.label}", *_rates([m.over_refusal.get(suite.name) for m in models]))
    table.add_section()
    table.add_row("perplexity, good answers", "", *(f"{model.perplexity:.1f}" for model in models))
    return table


def _rates(rates: Sequence[Rate | None]) -> list[str]:
    """Return how many prompts there were, and the share that each model refused of those that were scored."""
    return [str(max(rate.count + rate.unscored if rate else 0 for rate in rates)), *map(show_rate, rates)]


def _plain(text: str) -> str:
    """Model output is hostile text: keep control characters from the terminal."""
    return "".join(character for character in text if character.isprintable() or character == "\n")
