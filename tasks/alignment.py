"""Stage 3 as a task: GRPO on dynamically scaled rewards."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean

from peft import PeftModel
from transformers import PreTrainedModel

from dr_irl.alignment import Alignment, Distances
from dr_irl.categories import BENIGN
from dr_irl.config import Settings
from dr_irl.evaluation.judges import JUDGES
from dr_irl.language.adapters import (
    POLICY,
    add_policy_adapter,
    load_policy_adapter,
    merge_adapter_into,
    save_adapter,
    share_weights,
)
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.records import Hardness, ScalingRecord, StepRecord
from dr_irl.scaling.hardness import ClauseEmbeddings
from dr_irl.seeding import torch_generator
from tasks.contents import ADAPTER, HARDNESS, SCALING, STEPS, read_examples
from tasks.job import Inputs, Job
from tasks.models import base_policy, sampler_of, text_encoder, unit_embeddings
from tasks.reward import load_panel


def alignment(folder: Path, job: Job) -> None:
    """Align the policy: sample groups, score them by category, scale the advantages, update, repeat."""
    settings = job.settings
    base, tokenizer = base_policy(settings)
    sampled = share_weights(base)
    policy = starting_policy(base, settings, job.inputs)
    options, limit = settings.grpo, settings.completions.max_new_tokens
    loop = Alignment(
        policy,
        tokenizer,
        load_panel(job),
        options,
        settings.scaling,
        max_tokens=limit,
        seed=settings.seed,
        distances=own_distances(settings),
    )
    sampler = sampler_of(
        settings,
        sampled,
        tokenizer,
        max_new_tokens=limit,
        temperature=options.temperature,
        rows_at_once=options.prompts_per_step * options.group_size,
    )
    with job.progress.stage("GRPO", options.steps, "steps") as meter:
        state = loop.run(
            training_prompts(job.inputs),
            sampler,
            refresh_sampler=lambda: merge_adapter_into(sampled, policy),
            judge=JUDGES[settings.judge],
            report=lambda readings: meter.advance(1, **readings),
            checkpoints=job.checkpoints(meter, every=options.checkpoint_every),
        )
    save_adapter(policy, POLICY, folder / ADAPTER)
    StepRecord.write(state.logged, folder / STEPS)
    ScalingRecord.write(state.scaling, folder / SCALING)


def own_distances(settings: Settings) -> Distances | None:
    """Measure the policy's own completions where these settings ask for it; demonstrations are encoded once."""
    if settings.hardness.source == "reference":
        return None
    return ClauseEmbeddings(unit_embeddings(text_encoder(settings)), level=settings.hardness.level).distances


def training_prompts(inputs: Inputs) -> list[TrainingPrompt]:
    """Join the demonstrations with the hardness of each prompt and of its category; harmful ones need to have it."""
    examples = read_examples(inputs.folder("balance"), "train")
    by_prompt: dict[str, list[float]] = defaultdict(list)
    by_category: dict[str, list[float]] = defaultdict(list)
    for row in Hardness.read(inputs.folder("hardness") / HARDNESS):
        by_prompt[row.prompt_id].append(row.distance)
        by_category[row.category].append(row.distance)
    return [
        TrainingPrompt(
            id=example.id,
            text=example.prompt,
            category=str(example.category),
            demonstration=str(example.response),
            distance=0.0 if example.category == BENIGN else fmean(by_prompt[example.id]),
            category_distance=0.0 if example.category == BENIGN else fmean(by_category[str(example.category)]),
        )
        for example in examples
        if example.category == BENIGN or example.id in by_prompt
    ]


def starting_policy(base: PreTrainedModel, settings: Settings, inputs: Inputs) -> PeftModel:
    """Start from the warm start or the champion, which is then the reference, or from a fresh adapter."""
    if "start" in inputs:
        return load_policy_adapter(base, inputs.folder("start") / ADAPTER)
    return fresh_policy(base, settings)


def fresh_policy(base: PreTrainedModel, settings: Settings) -> PeftModel:
    """Put an untrained adapter on the base policy."""
    return add_policy_adapter(
        base,
        rank=settings.grpo.lora_rank,
        adapted_layers=settings.grpo.adapted_layers,
        target_modules=settings.grpo.target_modules,
        generator=torch_generator(settings.seed, "policy adapter"),
    )
