"""The warm start as a task: supervised fine-tuning before GRPO, no part of the method."""

import json
from pathlib import Path

from dr_irl.language.adapters import add_policy_adapter, save_policy_adapter
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.seeding import torch_generator
from dr_irl.warm_start import WarmStart
from dr_irl.warm_start import warm_start as train_warm_start
from tasks.caching import Job, stage_task
from tasks.demonstrations import read_examples
from tasks.models import base_policy, policy_identity

ADAPTER = "adapter"


@stage_task(
    "warm-start",
    modules=["dr_irl.warm_start"],
    reads=lambda settings, _: settings.warm_start.model_dump()
    | settings.grpo.model_dump(include={"lora_rank", "target_modules", "adapted_layers", "micro_batch_tokens"})
    | policy_identity(settings)
    | {"seed": settings.seed},
)
def warm_start(folder: Path, job: Job) -> None:
    """Raise the likelihood of some demonstrations; the result is the reference policy of everything after."""
    settings = job.settings
    model, tokenizer = base_policy(settings)
    policy = add_policy_adapter(
        model,
        rank=settings.grpo.lora_rank,
        adapted_layers=settings.grpo.adapted_layers,
        target_modules=settings.grpo.target_modules,
        generator=torch_generator(settings.seed, "policy adapter"),
    )
    prompts = [
        TrainingPrompt(e.id, e.prompt, str(e.category), str(e.response), distance=0.0, category_distance=0.0)
        for e in read_examples(job.inputs.folder("balance"), "train")
    ]
    options = WarmStart(
        steps=settings.warm_start.steps,
        rows_per_step=settings.warm_start.rows_per_step,
        benign_share=settings.warm_start.benign_share,
        learning_rate=settings.warm_start.learning_rate,
        micro_batch_tokens=settings.grpo.micro_batch_tokens,
        adapted_layers=settings.grpo.adapted_layers,
        limit=settings.warm_start.max_answer_tokens,
    )
    with job.progress.stage("warm start", options.steps, "steps") as meter:
        losses = train_warm_start(
            policy,
            tokenizer,
            prompts,
            options,
            generator=torch_generator(settings.seed, "warm start"),
            report=lambda loss: meter.advance(loss=loss),
        )
    save_policy_adapter(policy, folder / ADAPTER)
    (folder / "losses.json").write_text(json.dumps(losses))
