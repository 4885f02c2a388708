"""Stage 1 as tasks: sources, route, balance."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dr_irl.demonstrations.balance import balance as balance_examples
from dr_irl.demonstrations.balance import summarise_balance, wanted_rows
from dr_irl.demonstrations.dedupe import drop_duplicates, drop_overlaps
from dr_irl.demonstrations.generate import generate_demonstrations
from dr_irl.demonstrations.route import Router
from dr_irl.demonstrations.sources import load_examples, newest_first
from dr_irl.evaluation.judges import JUDGES
from dr_irl.records import Example
from dr_irl.seeding import numpy_generator, torch_generator
from tasks.contents import BALANCE, DROPPED, EXAMPLES, read_dropped
from tasks.job import Job
from tasks.models import base_policy, sampler_of, text_encoder


def sources(folder: Path, job: Job) -> None:
    """Read every source, drop duplicates and whatever overlaps an evaluation set."""
    options = job.settings.sources
    examples, bad = _load(job, options.files)
    distinct, repeated = drop_duplicates(examples, near_duplicate=options.near_duplicate)
    evaluation = {name: [example.prompt for example in _load(job, [name])[0]] for name in options.evaluation_files}
    kept, overlapping = drop_overlaps(distinct, evaluation, ngram=options.overlap_ngram)
    _write(folder, kept, Counter(bad) + Counter(repeated) + Counter(overlapping))


def route(folder: Path, job: Job) -> None:
    """Give prompts without a category one, where the router is sure enough."""
    examples, dropped = _read(job.inputs.folder("sources"))
    if any(example.category is None for example in examples):
        encoder = text_encoder(job.settings)
        router = Router.fit(examples, encoder)
        examples, abstained = router.route(examples, encoder, min_confidence=job.settings.route.min_confidence)
        dropped += Counter(abstained)
    _write(folder, examples, dropped)


def balance(folder: Path, job: Job) -> None:
    """Give prompts without a demonstration one, then make the categories equal."""
    settings = job.settings
    examples, dropped = _read(job.inputs.folder("route"))
    if settings.demonstrations.generator == "policy":
        examples, failed = _generated(job, examples)
        dropped += Counter(failed)
    kept = balance_examples(
        examples,
        wanted_rows(settings.balance.rows_per_category, settings.balance.benign_rows),
        newest=_newest(job),
        allow_repeats=settings.balance.allow_repeats,
        generator=numpy_generator(settings.seed, "balance"),
    )
    dropped.pop("unknown category", None)  # counts rows that were kept and routed
    summary = summarise_balance(examples, kept, dropped)
    (folder / BALANCE).write_text(json.dumps(asdict(summary), indent=2))
    Example.write([*kept, *(e for e in examples if e.split == "heldout")], folder / EXAMPLES)


def _newest(job: Job) -> list[set[str]]:
    """Return the ids of the rows of each file from the inbox, the newest file first."""
    return [{example.id for example in _load(job, [file])[0]} for file in newest_first(job.settings.sources.files)]


def _load(job: Job, files: Sequence[str]) -> tuple[list[Example], dict[str, int]]:
    options = job.settings.sources
    return load_examples(files, max_prompt_characters=options.max_prompt_characters, max_bad_rows=options.max_bad_rows)


def _generated(job: Job, examples: list[Example]) -> tuple[list[Example], dict[str, int]]:
    options = job.settings.demonstrations
    model, tokenizer = base_policy(job.settings)
    missing = sum(1 for example in examples if example.split == "train" and example.response is None)
    with job.progress.stage("demonstrations", missing * options.max_new_tokens, "tokens") as meter:
        sampler = sampler_of(
            job.settings,
            model,
            tokenizer,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            report=meter.advance,
        )
        return generate_demonstrations(
            examples,
            sampler,
            JUDGES[job.settings.judge],
            max_response_words=options.max_response_words,
            generator=torch_generator(job.settings.seed, "demonstrations"),
        )


def _write(folder: Path, examples: list[Example], dropped: Counter[str]) -> None:
    Example.write(examples, folder / EXAMPLES)
    (folder / DROPPED).write_text(json.dumps(dict(sorted(dropped.items())), indent=2))


def _read(folder: Path) -> tuple[list[Example], Counter[str]]:
    return Example.read(folder / EXAMPLES), read_dropped(folder)
