"""What a person at the terminal reads at the end: the result, the answers."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.report.data import ModelSummary, Rate
from flows.plan import Planned, reasons
from flows.record import RunRecord, load_run
from tasks.contents import ADAPTER, MODELS, REPORT, read_summary
from tasks.opening import look_into


def print_result(store: Store, record: RunRecord, output: str | None) -> None:
    """Print refusal by category, over-refusal, usefulness, time per stage, and where the report is."""
    console = Console(highlight=False)
    names = [name for name in MODELS if f"evaluation/{name}" in record.artifacts]
    models = [read_summary(store.fetch(record.artifacts[f"evaluation/{name}"])) for name in names]
    console.print(_result_table(models))
    manifests = [store.manifest(ref) for ref in record.artifacts.values()]
    slowest = sorted(manifests, key=lambda manifest: -manifest.wall_seconds)
    console.print(
        "seconds per stage: " + ", ".join(f"{m.stage} {m.wall_seconds:.0f}" for m in slowest if m.wall_seconds >= 1)
    )
    report = Path(output) / REPORT if output else f"{record.artifacts['report'].uri}/{REPORT}"
    console.print(f"run {record.run_id}\nreport {report}", soft_wrap=True, markup=False)


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


def chat_with(store_uri: str, run_id: str, prompts: Iterable[str], *, max_new_tokens: int) -> None:
    """Answer each prompt with the unaligned and the aligned model of a run.

    Raises:
        UserError: there is no such run.
    """
    store = look_into(store_uri)
    record = load_run(store, run_id)
    adapter = store.fetch(record.artifacts["grpo"]) / ADAPTER

    import torch  # seconds of imports, which a wrong name of a run should not cost

    from dr_irl.language.sampling import CachedPrefixSampler
    from tasks.models import merged_policy

    samplers = {
        name: CachedPrefixSampler(
            *merged_policy(record.settings, folder), max_new_tokens=max_new_tokens, temperature=0.0
        )
        for name, folder in (("unaligned", None), ("aligned", adapter))
    }
    console = Console(highlight=False)
    for prompt in prompts:
        table = Table("unaligned", "aligned", title=None, expand=console.is_terminal)
        answers = [
            sampler.sample([prompt], per_prompt=1, generator=torch.Generator())[0][0].text
            for sampler in samplers.values()
        ]
        if console.is_terminal:
            table.add_row(*(_plain(answer) for answer in answers))
            console.print(table)
            continue
        for name, answer in zip(samplers, answers, strict=True):
            console.print(f"{name}: {_plain(answer)}", markup=False, soft_wrap=True)


def _result_table(models: list[ModelSummary]) -> Table:
    table = Table(title="refusal, with 95 % intervals")
    table.add_column("prompts")
    for model in models:
        table.add_column(model.name, justify="right")
    for category in (*HARM_CATEGORIES, "all"):
        label = "harmful, all" if category == "all" else category
        table.add_row(label, *(_rate(model.refusal[category]) for model in models), end_section=category == "all")
    for suite, label in (("ordinary", f"{BENIGN}: ordinary"), ("lookalike", f"{BENIGN}: look-alike")):
        table.add_row(label, *(_rate(model.over_refusal[suite]) for model in models))
    table.add_section()
    table.add_row("perplexity of good answers", *(f"{model.perplexity:.1f}" for model in models))
    return table


def _rate(rate: Rate) -> str:
    if not rate.count:
        return "unscored"
    unscored = f" ({rate.unscored} unscored)" if rate.unscored else ""
    return f"{rate.value:.0%} of {rate.count} [{rate.low:.0%}, {rate.high:.0%}]{unscored}"


def _plain(text: str) -> str:
    """Model output is hostile text: keep control characters from the terminal."""
    return "".join(character for character in text if character.isprintable() or character == "\n")
