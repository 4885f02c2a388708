"""The whole DAG on one screen."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from prefect import Task, flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict

from dr_irl.artifacts import ArtifactRef
from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.config import Settings
from dr_irl.profile import load_settings
from tasks.alignment import alignment
from tasks.caching import open_store
from tasks.demonstrations import balance, route, sources
from tasks.evaluation import evaluation
from tasks.hardness import hardness
from tasks.publishing import export_run
from tasks.report import report
from tasks.reward import panel_report, reward_model
from tasks.sampling import completions
from tasks.warm_start import warm_start


class RunRecord(BaseModel):
    """What a run leaves behind: where each of its artifacts is."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    settings: Settings
    artifacts: dict[str, ArtifactRef]


@flow(name="train", task_runner=ThreadPoolTaskRunner(max_workers=2))  # pyright: ignore[reportCallIssue, reportArgumentType]
def dr_irl_pipeline(
    profile: Literal["smoke", "demo", "paper"] | str = "demo",
    overrides: dict[str, Any] | None = None,
    store: str = "store",
    output: str | None = None,
) -> RunRecord:
    """Align a model with DR-IRL.

    Args:
        profile: `smoke`, `demo`, `paper`, or the path of a YAML file.
        overrides: dotted setting name -> value, for example `{"grpo.steps": 20}`.
        store: a folder or `s3://bucket/prefix` for artifacts.
        output: a folder that receives the adapter, the report and the run's record; none by default.
    """
    settings = load_settings(profile, overrides)
    store = open_store(store).uri

    def run(
        stage: Task[..., Any], variant: str = "", *, after: Any = None, **inputs: Any
    ) -> PrefectFuture[ArtifactRef]:
        return stage.submit(settings, store, inputs, variant, wait_for=[after] if after else None)

    read = run(sources)
    routed = run(route, sources=read)
    balanced = run(balance, route=routed)
    start: dict[str, Any] = {"warm_start": run(warm_start, balance=balanced)} if settings.warm_start.steps else {}
    # Not side by side, though neither reads the other: each keeps every core busy.
    sampled = run(completions, after=start.get("warm_start"), balance=balanced)
    labels = [*HARM_CATEGORIES, *([BENIGN] if settings.balance.benign_rows else [])]
    learnt: dict[str, Any] = {
        f"reward_{c}": run(reward_model, c, balance=balanced, completions=sampled) for c in reversed(labels)
    }
    measured = run(hardness, balance=balanced, completions=sampled)
    judged = run(panel_report, after=measured, balance=balanced, completions=sampled, **learnt)
    aligned = run(alignment, after=judged, balance=balanced, hardness=measured, **start, **learnt)

    # One after the other: each keeps every core busy.
    evaluated: dict[str, Any] = {"evaluation_unaligned": run(evaluation, "unaligned", after=aligned, balance=balanced)}
    if start:
        evaluated["evaluation_warm start"] = run(
            evaluation,
            "warm start",
            after=evaluated["evaluation_unaligned"],
            balance=balanced,
            adapter=start["warm_start"],
        )
    last = list(evaluated.values())[-1]
    evaluated["evaluation_aligned"] = run(evaluation, "aligned", after=last, balance=balanced, adapter=aligned)

    # In the order of the DAG, so that the error of the stage that failed is raised, not of one that waited for it.
    found: dict[str, Any] = {"sources": read, "route": routed, "balance": balanced, **start, "completions": sampled}
    found |= {**learnt, "hardness": measured, "panel": judged, "alignment": aligned, **evaluated}
    written = run(report, **found)
    artifacts = {name: future.result() for name, future in (found | {"report": written}).items()}
    return _record(settings, store, artifacts, Path(output) if output else None)


def _record(settings: Settings, store: str, artifacts: dict[str, ArtifactRef], output: Path | None) -> RunRecord:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    run = RunRecord(
        run_id=f"{settings.profile}-{stamp}-{artifacts['alignment'].fingerprint[:8]}",
        settings=settings,
        artifacts=artifacts,
    )
    text = run.model_dump_json(indent=2)
    open_store(store).write_text(f"runs/{run.run_id}.json", text)
    if output is not None:
        export_run(open_store(store), artifacts, text, output)
    return run
