"""The weekly retraining: what was dropped into the store's inbox since the last run is claimed and trained on."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from dr_irl.artifacts import Store
from dr_irl.artifacts.keys import INBOX, RUNS
from dr_irl.config import Settings, SourceSettings
from dr_irl.demonstrations.dedupe import drop_overlaps
from dr_irl.demonstrations.inbox import REFUSED, Limits, claim_inbox
from dr_irl.demonstrations.ledger import read_ledger
from dr_irl.demonstrations.news import News, count_news
from dr_irl.demonstrations.sources import evaluation_prompts, load_examples, newest_first
from dr_irl.errors import SettingsError, UserError
from dr_irl.json_text import parse_object
from dr_irl.profile import Shipped, load_settings
from dr_irl.records import Example
from flows.declaring import FLOW
from flows.lasting import open_lasting
from flows.pipeline import align
from flows.promotion import against_champion
from flows.record import RunRecord, run_ids
from flows.runners.running import Runner, running_on
from tasks.contents import EXAMPLES
from tasks.dag import build_dag, select
from tasks.orchestration.failures import ending_in_a_sentence
from tasks.orchestration.interruption import stopping_on_signals


@flow(name="retrain", **FLOW)
@ending_in_a_sentence
@stopping_on_signals()
def retrain_pipeline(
    profile: Shipped | str = "demo",
    overrides: dict[str, Any] | None = None,
    store: str = "store",
    output: str | None = None,
    start: Literal["base", "champion"] = "base",
    promote: str | None = "safe",
    force: bool = False,
    runner: Runner = "threads",
) -> RunRecord | State[Any]:
    """Train on the profile's own files and on all that ever came in through the inbox; nothing new, nothing run.

    Args:
        profile: the name of a shipped one, or the path of a YAML file.
        overrides: dotted setting name -> value, for example `{"demonstrations.generator": "policy"}`.
        store: a folder or `s3://bucket/prefix` for artifacts; new prompts are dropped below its `inbox/`.
        output: a folder that receives the adapter, the report and the run's record; none by default.
        start: train the policy anew (`base`), or go on from the champion of the model named by `promote`.
        promote: the name under which the result is published, if it beats the champion of that name; none: not at all.
        force: train even if nothing is new.
        runner: where stages run: `threads`, `processes`, `dask` or `ray`.

    Returns:
        The run's record; where nothing was to be done, the state Completed with the reason.
    """
    opened = open_lasting(store, output)
    settings = _starting_from(start, load_settings(profile, overrides), opened, promote)
    left = _claim(opened, settings.sources)
    own = settings.sources.files
    accepted = [uri for entry in read_ledger(opened.backend) if (uri := f"{opened.uri}/{entry.key}") not in own]
    last, trained_on = _last_retraining(opened, settings.profile)
    new = [file for file in accepted if PurePosixPath(file).name not in trained_on]
    if not new and not force:
        since = f"since run {last}" if last else "yet"
        return Completed(
            message=f"nothing new in {opened.uri}/{INBOX} {since}; {left} files were left for the next run"
        )
    sources = settings.sources.model_copy(update={"files": (*own, *accepted)})
    settings = settings.model_copy(update={"sources": sources})
    with running_on(runner):
        news = _news(settings, opened, new)
        get_run_logger().info("new files: %d, with %s", len(new), news)
        if not force and not news.usable(generated=settings.demonstrations.generator != "none"):
            return Completed(message=f"nothing that is new can be trained on; new files: {len(new)}, with {news}")
        record = align(settings, opened, output=output, promote=promote)
    assert isinstance(record, RunRecord)
    return record


def _starting_from(start: str, settings: Settings, store: Store, promote: str | None) -> Settings:
    if promote:
        settings = against_champion(settings, store, promote)
    if start == "base":
        return settings
    if settings.models.champion is None:
        if promote is None:
            raise SettingsError(
                "start is 'champion', but no model is named whose champion that is: name it by promote, or an adapter "
                "by models.champion; or start from 'base'"
            )
        get_run_logger().info("%r has no champion yet: starting from the base", promote)
        return settings
    return settings.model_copy(update={"models": settings.models.model_copy(update={"start": "champion"})})


def _claim(store: Store, sources: SourceSettings) -> int:
    """Claim what is in the inbox, and log what became of each file; returns how many were left for the next run."""
    logger = get_run_logger()
    claim = claim_inbox(store, Limits(sources.max_prompt_characters, sources.max_bad_rows))
    for entry in claim.accepted:
        logger.info("accepted %r as %s: %d rows", entry.name, entry.key, entry.rows)
    for name in claim.repeated:
        logger.info("%r was accepted before", name)
    for name, why in claim.left.items():
        logger.info("left %r for the next run: %s", name, why)
    for name, why in claim.refused.items():
        logger.warning("refused %r, now in %s: %s", name, REFUSED, why)
    return len(claim.left)


def _last_retraining(store: Store, profile: str) -> tuple[str | None, set[str]]:
    """Return the last finished run of a profile that trained on files from an inbox, and the names of these files."""
    for run_id in reversed(run_ids(store)):
        # Not as a RunRecord: which files there were can also be read in records of other versions.
        key = f"{RUNS}/{run_id}.json"
        try:
            settings = parse_object(store.read_text(key))["settings"]
            files, trained = newest_first(settings["sources"]["files"]), settings["profile"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"the record of run {run_id!r} does not say what it trained on, so what is new since is not known; "
                f"repair or delete {store.uri}/{key}"
            ) from error
        if files and trained == profile:
            return run_id, {PurePosixPath(file).name for file in files}
    return None, set()


def _news(settings: Settings, store: Store, new: Sequence[str]) -> News:
    """Run what comes before balance, and count what is new in its result."""
    artifacts = align(settings, store, select(build_dag(settings), only=["route"]))
    assert isinstance(artifacts, dict)
    distinct, routed = (Example.read(store.fetch(artifacts[stage]) / EXAMPLES) for stage in ("sources", "route"))
    sources = settings.sources
    rows = _load(sources, new)
    evaluation = evaluation_prompts(sources.evaluation_files, max_bad_rows=sources.max_bad_rows)
    return count_news(
        rows,
        _load(sources, [file for file in sources.files if file not in new]),
        unspoilt=drop_overlaps(rows, evaluation, ngram=sources.overlap_ngram)[0],
        distinct=distinct,
        routed=routed,
    )


def _load(sources: SourceSettings, files: Sequence[str]) -> list[Example]:
    limits = {"max_prompt_characters": sources.max_prompt_characters, "max_bad_rows": sources.max_bad_rows}
    return load_examples(files, **limits)[0]
