"""Stage 2 as tasks: a reward model per category, the panel they make up, and how good it is."""

import json
import logging
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dr_irl.artifacts.keys import MANIFEST_NAME
from dr_irl.categories import ALL_LABELS, HARM_CATEGORIES, SINGLE
from dr_irl.config import Settings
from dr_irl.evaluation.judges import JUDGES
from dr_irl.records import RewardReading
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.outcome import RewardTraining
from dr_irl.reward.pairs import PreferenceRow, preference_rows, without_equals
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.quality import measured_pairs, read_rewards
from dr_irl.reward.saved import Origin, save_reward_model, weights_digest
from dr_irl.reward.train import prepare_rows, train_reward_model
from dr_irl.reward.verify import verify_in_new_process
from dr_irl.seeding import torch_generator
from tasks.contents import READINGS, TRAINING, read_examples, texts_by_prompt
from tasks.job import Inputs, Job
from tasks.models import policy_tokenizer, reward_backbone
from tasks.sampling import measured_prompts

logger = logging.getLogger(__name__)


def reward_model(folder: Path, job: Job) -> None:
    """Learn one category's reward from its demonstrations by maximum-likelihood inverse RL.

    Tasks of several categories run in threads, each with a backbone of its own: PEFT changes modules in place.
    """
    backbone, origin = _fresh_backbone(job, job.variant)
    rows = _rows(job, job.variant)
    with job.progress.stage(f"reward {job.variant}", _steps(job.settings, len(rows)), "steps") as meter:
        outcome = train_reward_model(
            backbone,
            rows,
            job.settings.reward,
            generator=torch_generator(job.settings.seed, "reward", job.variant),
            report=lambda loss: meter.advance(loss=loss),
            checkpoints=job.checkpoints(meter, every=job.settings.reward.checkpoint_every),
        )
    _save(backbone, job.variant, outcome, origin, folder)


def joint_reward_models(folder: Path, job: Job) -> None:
    """Learn all categories' rewards over one resident backbone, whose lower layers see every text in one pass.

    What is learnt is what `reward_model` learns. Each category has a checkpoint of its own.
    """
    labels = job.settings.reward_labels
    backbone, origin = _fresh_backbone(job, *labels)
    rows = {label: _rows(job, label) for label in labels}
    prepared = iter(prepare_rows(backbone, [row for label in labels for row in rows[label]]))
    steps = sum(_steps(job.settings, len(own)) for own in rows.values())
    with job.progress.stage("reward models", steps, "steps") as meter:
        for label in labels:
            backbone.model.set_adapter(label)
            outcome = train_reward_model(
                backbone,
                rows[label],
                job.settings.reward,
                generator=torch_generator(job.settings.seed, "reward", label),
                report=lambda loss: meter.advance(loss=loss),
                checkpoints=job.checkpoints(meter, every=job.settings.reward.checkpoint_every, part=label),
                prepared=[next(prepared) for _ in rows[label]],
            )
            (folder / label).mkdir()
            _save(backbone, label, outcome, origin, folder / label)


def panel(folder: Path, job: Job) -> None:
    """Put the reward models of all categories into one folder, and see in a new process that they load whole."""
    # A manifest says when and from what that artifact was made; this one has its own.
    without_manifest = shutil.ignore_patterns(MANIFEST_NAME)
    for label, source in reward_folders(job.inputs).items():
        shutil.copytree(source, folder / label, ignore=without_manifest)
    verify_in_new_process(folder, device=job.settings.models.device)


def panel_report(folder: Path, job: Job) -> None:
    """Score held-out demonstrations against completions and hard negatives; none of the models was trained on them."""
    settings, judge = job.settings, JUDGES[job.settings.judge]
    examples = measured_prompts(read_examples(job.inputs.folder("balance"), "heldout"), job)
    pairs = measured_pairs(
        examples,
        texts_by_prompt(job.inputs.folder("completions")),
        refuses=judge,
        generator=torch_generator(settings.seed, "hard negatives"),
    )
    folders = {path.name: path for path in sorted(job.inputs.folder("panel").iterdir()) if path.is_dir()}
    if (single := f"reward/{SINGLE}") in job.inputs:
        folders[SINGLE] = job.inputs.folder(single)
    models = RewardPanel.assemble(folders, device=settings.models.device)
    RewardReading.write(read_rewards(models, pairs, refuses=judge), folder / READINGS)


def load_panel(job: Job) -> RewardPanel:
    """Load the reward models that GRPO was given."""
    return RewardPanel.assemble(panel_folders(job), device=job.settings.models.device)


def panel_folders(job: Job) -> dict[str, Path]:
    """Return category -> folder of the model that rewards its prompts: its own, or one for all harm categories."""
    folders = {path.name: path for path in sorted(job.inputs.folder("panel").iterdir()) if path.is_dir()}
    if job.settings.grpo.reward_models == "single":
        folders |= dict.fromkeys(HARM_CATEGORIES, job.inputs.folder(f"reward/{SINGLE}"))
    return folders


def reward_folders(inputs: Inputs) -> dict[str, Path]:
    """Return category -> folder of its reward model, whether they were trained one by one or together."""
    if "reward" in inputs:
        return {path.name: path for path in sorted(inputs.folder("reward").iterdir()) if path.is_dir()}
    return {label: inputs.folder(f"reward/{label}") for label in ALL_LABELS if f"reward/{label}" in inputs}


def _fresh_backbone(job: Job, *labels: str) -> tuple[RewardBackbone, Origin]:
    """Load the frozen backbone and put an untrained adapter on it for each label; the last one is active."""
    settings, options = job.settings, job.settings.reward
    model: Any = reward_backbone(settings)
    models = settings.models
    origin = Origin(
        models.policy,
        models.policy_revision,
        options.depth,
        models.number_format,
        weights_digest(model),
        models.template_arguments,
        models.template_date,
    )
    for label in labels:
        model = add_reward_adapter(
            model,
            label,
            rank=options.lora_rank,
            adapted_layers=options.adapted_layers,
            target_modules=options.target_modules,
            generator=torch_generator(settings.seed, "reward adapter", label),
        )
    backbone = RewardBackbone(
        model,
        policy_tokenizer(settings),
        adapted_layers=options.adapted_layers,
        limit=settings.completions.max_new_tokens,
    )
    return backbone, origin


def _rows(job: Job, label: str) -> list[PreferenceRow]:
    """Make the rows of a category; `single` has those of all harm categories."""
    examples = read_examples(job.inputs.folder("balance"), "train")
    completions = texts_by_prompt(job.inputs.folder("completions"))
    rows = [
        row
        for category in (HARM_CATEGORIES if label == SINGLE else (label,))
        for row in preference_rows(
            examples,
            category,
            completions,
            job.settings.reward,
            refuses=JUDGES[job.settings.judge],
            generator=torch_generator(job.settings.seed, "pairs", category),
        )
    ]
    kept = without_equals(rows)
    if len(kept) < len(rows):
        logger.warning(
            "reward %s: %d of %d rows are left out: all that their demonstration is compared with is itself",
            label,
            len(rows) - len(kept),
            len(rows),
        )
    return kept


def _steps(settings: Settings, rows: int) -> int:
    """Return the most steps that training can take."""
    options = settings.reward
    trained = rows - max(1, round(options.validation_share * rows))
    return options.rounds * options.epochs * math.ceil(trained / options.prompts_per_step)


def _save(backbone: RewardBackbone, label: str, outcome: RewardTraining, origin: Origin, folder: Path) -> None:
    save_reward_model(backbone, label, outcome.calibration, origin, folder)
    values = asdict(outcome)
    del values["calibration"]  # the card has it
    (folder / TRAINING).write_text(json.dumps(values))
