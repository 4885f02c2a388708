"""Promotion in a flow: the gate and the publication as tasks, each seen on the page of its run."""

import logging

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from dr_irl.artifacts import Store
from dr_irl.config import Settings
from dr_irl.errors import SettingsError
from dr_irl.promotion.published import Version
from dr_irl.promotion.registry import Registry
from flows.record import RunRecord, load_run
from tasks.orchestration.failures import ending_in_a_sentence, result_of
from tasks.orchestration.opening import open_store
from tasks.promotion import Candidate, Verdict, gate_run, publish_run, published_as_champion

logger = logging.getLogger(__name__)


def against_champion(settings: Settings, store: Store, name: str) -> Settings:
    """Have a run evaluate the champion of `name` beside its result; settings stay as they are before there is one.

    Raises:
        SettingsError: they name another model as the champion.
    """
    if Registry(store).champion(name) is None:
        return settings
    adapter = Registry(store).adapter_uri(name)
    if settings.models.champion not in (None, adapter):
        raise SettingsError(
            f"models.champion is {settings.models.champion!r}, but the result is to replace the champion of {name!r}, "
            f"{adapter}; leave models.champion out, or promote under another name"
        )
    return settings.model_copy(update={"models": settings.models.model_copy(update={"champion": adapter})})


def promote_run(record: RunRecord, store: Store, name: str) -> Version:
    """Publish a run's result under `name` and make it the champion, if it passes the gate; called inside a flow.

    Raises:
        GateError: it may not replace the champion, which stays.
    """
    if champion := published_as_champion(store, candidate(record), name):
        logger.info("the result is the champion of %r already: %s", name, champion.version)
        return champion
    verdict = result_of(gate, store.uri, record.run_id, name)
    return result_of(publish, store.uri, record.run_id, name, verdict)


def candidate(record: RunRecord) -> Candidate:
    """Put a run's record in the terms of `tasks`."""
    return Candidate(record.run_id, record.settings, record.artifacts)


@task(name="gate", task_run_name="gate {name}", cache_policy=NO_CACHE, persist_result=False)
@ending_in_a_sentence
def gate(store: str, run_id: str, name: str) -> Verdict:
    """Compare a run's result with the champion; fails where it may not replace it."""
    opened = open_store(store)
    verdict = gate_run(opened, candidate(load_run(opened, run_id)), name)
    create_table_artifact(
        [
            {"check": check.name, "result": "passed" if check.passed else "FAILED", "seen": check.sentence}
            for check in sorted(verdict.checks, key=lambda check: check.passed)
        ],
        key="promotion-gate",
        description=f"May the result replace {verdict.compared_with} as {name!r}? What failed comes first.",
    )
    for check in verdict.checks:
        if not check.passed:
            logger.warning("gate %s: %s: %s", name, check.name, check.sentence)
    verdict.require_passed()
    return verdict


@task(name="publish", task_run_name="publish {name}", cache_policy=NO_CACHE, persist_result=False)
@ending_in_a_sentence
def publish(store: str, run_id: str, name: str, verdict: Verdict) -> Version:
    """Publish a run's result as a version and make it the champion."""
    opened = open_store(store)
    version = publish_run(opened, candidate(load_run(opened, run_id)), name, verdict)
    create_markdown_artifact(
        f"**{name}** {version.version} is the champion, after {verdict.replaces or 'no other'}.\n\n"
        f"- adapter, tokenizer, card and report: `{Registry(opened).uri(name, version.version)}`\n"
        f"- back to the one before: `dr-irl rollback {name}`\n",
        key="promotion",
        description=f"What was published as {name!r}.",
    )
    return version
