"""Reference completions as a task."""

from pathlib import Path

from dr_irl.categories import ALL_LABELS
from dr_irl.evaluation.prompts import evaluation_prompts
from dr_irl.evaluation.suites import HARMFUL, LOOKALIKE, ORDINARY, SUITES
from dr_irl.records import Completion, Example
from dr_irl.seeding import numpy_generator, torch_generator
from tasks.contents import COMPLETIONS, read_examples
from tasks.job import Job
from tasks.models import base_policy, sampler_of


def completions(folder: Path, job: Job) -> None:
    """Sample the unaligned policy: n completions of each training prompt, one of some held-out prompts."""
    settings, options = job.settings, job.settings.completions
    model, tokenizer = base_policy(settings)
    train = _drawn(read_examples(job.inputs.folder("balance"), "train"), job)
    heldout = measured_prompts(read_examples(job.inputs.folder("balance"), "heldout"), job)
    total = (len(train) * options.per_prompt + len(heldout)) * options.max_new_tokens
    with job.progress.stage("reference completions", total, "tokens") as meter:
        sampler = sampler_of(
            settings,
            model,
            tokenizer,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            rows_at_once=options.rows_at_once,
            report=meter.advance,
        )
        rows = [
            Completion(example.id, index, sample.text, len(sample.token_ids), sample.truncated)
            for examples, per_prompt in ((train, options.per_prompt), (heldout, 1))
            for example, group in zip(
                examples,
                sampler.sample(
                    [example.prompt for example in examples],
                    per_prompt=per_prompt,
                    generator=torch_generator(settings.seed, "completions", per_prompt),
                ),
                strict=True,
            )
            for index, sample in enumerate(group)
        ]
    Completion.write(rows, folder / COMPLETIONS)


def _drawn(examples: list[Example], job: Job) -> list[Example]:
    """Choose the training prompts to complete: so many per category, benign included."""
    limit = job.settings.completions.prompts_per_category
    if limit is None:
        return examples
    generator = numpy_generator(job.settings.seed, "completed prompts")
    labelled = {label: [e for e in examples if e.category == label] for label in ALL_LABELS}
    return [
        own[place]
        for own in labelled.values()
        for place in sorted(generator.choice(len(own), size=min(limit, len(own)), replace=False))
    ]


def measured_prompts(heldout: list[Example], job: Job) -> list[Example]:
    """Choose the held-out prompts that the reward models are measured on: so many per category, benign included."""
    count = job.settings.completions.heldout_per_category
    chosen = evaluation_prompts(
        heldout,
        [SUITES[name] for name in (HARMFUL, ORDINARY, LOOKALIKE)],  # these share out the data
        per_category=count,
        per_suite=count,
        generator=numpy_generator(job.settings.seed, "measured prompts"),
    )
    return [example for examples in chosen.values() for example in examples if example.category in ALL_LABELS]
