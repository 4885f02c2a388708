"""Stage 4 as a task: one model's answers to the held-out prompts, judged and summed up."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

from dr_irl.demonstrations.fitting import leave_out_too_long
from dr_irl.evaluation.judges import JUDGES
from dr_irl.evaluation.prompts import evaluation_prompts
from dr_irl.evaluation.run import answer_prompts, perplexity, summarise
from dr_irl.evaluation.suites import ORDINARY, suites
from dr_irl.records import Answer
from dr_irl.seeding import numpy_generator
from tasks.contents import ADAPTER, ANSWERS, SUMMARY, model_title, read_examples
from tasks.job import Job
from tasks.models import merged_policy, prompt_lengths, sampler_of

logger = logging.getLogger(__name__)


def evaluation(folder: Path, job: Job) -> None:
    """Let one model answer the held-out prompts greedily."""
    options = job.settings.evaluation
    adapter = job.inputs.folder("adapter") / ADAPTER if "adapter" in job.inputs else None
    model, tokenizer = merged_policy(job.settings, adapter)
    fitting = prompt_lengths(job.settings, answer_tokens=options.max_new_tokens)
    heldout, too_long = leave_out_too_long(read_examples(job.inputs.folder("balance"), "heldout"), *fitting)
    if too_long:
        logger.warning("%d held-out prompts are not asked: they leave no room for an answer", len(too_long))
    prompts = evaluation_prompts(
        heldout,
        suites(),
        per_category=options.per_category,
        per_suite=options.ordinary,
        generator=numpy_generator(job.settings.seed, "evaluation prompts"),
    )
    tokens = sum(map(len, prompts.values())) * options.max_new_tokens
    with job.progress.stage(f"evaluate {job.variant}", tokens, "tokens") as meter:
        sampler = sampler_of(
            job.settings,
            model,
            tokenizer,
            max_new_tokens=options.max_new_tokens,
            temperature=0.0,
            rows_at_once=options.rows_at_once,
            report=meter.advance,
        )
        answers = answer_prompts(sampler, prompts, JUDGES[job.settings.judge])
    summary = summarise(model_title(job.variant), answers, perplexity(model, tokenizer, prompts[ORDINARY]))
    Answer.write(answers, folder / ANSWERS)
    (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=2))
