"""Embedding hardness as a task: the cached half of the dynamic scale."""

from pathlib import Path

from dr_irl.categories import BENIGN
from dr_irl.records import Hardness
from dr_irl.scaling.hardness import distances
from tasks.contents import HARDNESS, read_examples, texts_by_prompt
from tasks.job import Job
from tasks.models import text_encoder, unit_embeddings


def hardness(folder: Path, job: Job) -> None:
    """Measure how far each reference completion of a harmful prompt is from its demonstration."""
    examples = [e for e in read_examples(job.inputs.folder("balance"), "train") if e.category != BENIGN]
    texts = texts_by_prompt(job.inputs.folder("completions"))
    pairs = [(e, index, text) for e in examples for index, text in enumerate(texts.get(e.id, []))]
    with job.progress.stage("hardness", len(pairs), "pairs") as meter:
        found = distances(
            [text for _, _, text in pairs],
            [str(example.response) for example, _, _ in pairs],
            unit_embeddings(text_encoder(job.settings)),
            level=job.settings.hardness.level,
        )
        meter.advance(len(pairs), distance=sum(found) / len(found))
    rows = [
        Hardness(example.id, str(example.category), index, distance)
        for (example, index, _), distance in zip(pairs, found, strict=True)
    ]
    Hardness.write(rows, folder / HARDNESS)
