"""Stage 1 as tasks: sources, route, balance."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

from dr_irl.demonstrations.balance import balance as balance_examples
from dr_irl.demonstrations.balance import not_drawn, summarise_balance, wanted_rows, with_demonstration
from dr_irl.demonstrations.declining import require_declining
from dr_irl.demonstrations.dedupe import LeftOut, drop_duplicates, drop_overlaps
from dr_irl.demonstrations.fitting import leave_out_too_long
from dr_irl.demonstrations.generate import generate_demonstrations
from dr_irl.demonstrations.holdout import hold_out
from dr_irl.demonstrations.parse import HELDOUT
from dr_irl.demonstrations.route import Router
from dr_irl.demonstrations.sources import (
    evaluation_prompts,
    load_examples,
    newest_first,
    quarantined,
    rows_by_reason,
)
from dr_irl.evaluation.judges import JUDGES
from dr_irl.records import Example, Quarantined
from dr_irl.seeding import numpy_generator, torch_generator
from tasks.contents import BALANCE, EXAMPLES, QUARANTINE
from tasks.job import Job
from tasks.models import base_policy, prompt_lengths, sampler_of, text_encoder

logger = logging.getLogger(__name__)


def sources(folder: Path, job: Job) -> None:
    """Read every source, drop duplicates and whatever overlaps an evaluation set."""
    options = job.settings.sources
    examples, bad = load_examples(
        options.files, max_prompt_characters=options.max_prompt_characters, max_bad_rows=options.max_bad_rows
    )
    distinct, repeated = drop_duplicates(examples, near_duplicate=options.near_duplicate)
    evaluation = evaluation_prompts(options.evaluation_files, max_bad_rows=options.max_bad_rows)
    kept, overlapping = drop_overlaps(distinct, evaluation, ngram=options.overlap_ngram)
    _write(folder, kept, [*bad, *quarantined([*repeated, *overlapping], "sources")])


def route(folder: Path, job: Job) -> None:
    """Give prompts without a category one, where the router is sure enough; hold some rows out where none are."""
    examples, quarantine = _read(job.inputs.folder("sources"))
    if any(example.category is None for example in examples):
        encoder = text_encoder(job.settings)
        router = Router.fit(examples, encoder)
        examples, abstained = router.route(examples, encoder, min_confidence=job.settings.route.min_confidence)
        quarantine += quarantined(abstained, "route")
    _write(folder, hold_out(examples, job.settings.sources.heldout_share), quarantine)


def balance(folder: Path, job: Job) -> None:
    """Give prompts without a demonstration one, then make the categories equal."""
    settings = job.settings
    examples, quarantine = _read(job.inputs.folder("route"))
    fitting = prompt_lengths(settings, answer_tokens=settings.completions.max_new_tokens)
    examples, left_out = leave_out_too_long(examples, *fitting)
    if settings.demonstrations.generator == "policy":
        examples, failed = _generated(job, examples)
        left_out += failed
    examples, without = with_demonstration(examples)
    if not settings.balance.allow_compliance:
        require_declining(examples, JUDGES[settings.judge])
    quarantine += quarantined([*left_out, *without], "balance")
    kept = balance_examples(
        examples,
        wanted_rows(settings.balance.rows_per_category, settings.balance.benign_rows),
        newest=_newest(job),
        allow_repeats=settings.balance.allow_repeats,
        generator=numpy_generator(settings.seed, "balance"),
    )
    summary = summarise_balance(examples, kept, rows_by_reason(quarantine))
    (folder / BALANCE).write_text(json.dumps(asdict(summary), indent=2))
    _write(
        folder,
        [*kept, *(e for e in examples if e.split == HELDOUT)],
        [*quarantine, *quarantined(not_drawn(examples, kept), "balance")],
    )
    if quarantine:
        logger.warning("%d rows are left out; why stands in %s of the stage balance", len(quarantine), QUARANTINE)


def _newest(job: Job) -> list[set[str]]:
    """Return the ids of the rows of each file from the inbox, the newest file first."""
    options = job.settings.sources
    limits = {"max_prompt_characters": options.max_prompt_characters, "max_bad_rows": options.max_bad_rows}
    return [{example.id for example in load_examples([file], **limits)[0]} for file in newest_first(options.files)]


def _generated(job: Job, examples: list[Example]) -> tuple[list[Example], LeftOut]:
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


def _write(folder: Path, examples: list[Example], quarantine: list[Quarantined]) -> None:
    Example.write(examples, folder / EXAMPLES)
    Quarantined.write(quarantine, folder / QUARANTINE)


def _read(folder: Path) -> tuple[list[Example], list[Quarantined]]:
    return Example.read(folder / EXAMPLES), Quarantined.read(folder / QUARANTINE)
