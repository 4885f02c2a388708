"""A finished run before the gate, and into the registry: reads artifacts, asks, publishes."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.config import Settings
from dr_irl.errors import GateError
from dr_irl.promotion.card import Evidence, Subject, model_card
from dr_irl.promotion.gate import Check, Contender, failures_in_a_line, run_gate
from dr_irl.promotion.published import Version, version_of
from dr_irl.promotion.registry import Registry
from dr_irl.promotion.servable import CONFIG_FILE, WEIGHTS_FILE, lora_rank, require_servable
from dr_irl.records import Answer, RewardReading
from dr_irl.results.summaries import BalanceSummary, RewardSummary
from dr_irl.reward.readings import summarise_reward
from tasks.contents import (
    ADAPTER,
    ALIGNED,
    ANSWERS,
    BALANCE,
    CHAMPION,
    MODELS,
    READINGS,
    REPORT,
    TRAINING,
    UNALIGNED,
    read_examples,
    read_summary,
)
from tasks.stages import EVALUATION
from tasks.trainers import trained_by

TOKENIZER, CARD = "tokenizer", "README.md"
_WEIGHTS = f"{ADAPTER}/{WEIGHTS_FILE}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished run whose result may become the champion."""

    run_id: str
    settings: Settings
    artifacts: Mapping[str, ArtifactRef]
    """Node of the DAG -> its artifact."""

    @property
    def trained(self) -> ArtifactRef:
        """The artifact that holds the trained policy."""
        return self.artifacts[trained_by(self.settings)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found."""

    checks: list[Check]
    replaces: str | None
    """The champion that the result was compared with; None where there is none yet."""
    compared_with: str
    """The same in words."""

    def require_passed(self) -> None:
        """Check that the result may replace the champion.

        Raises:
            GateError: it may not; names every check that failed, and of the first by how much.
        """
        if failed := sum(not check.passed for check in self.checks):
            raise GateError(
                f"the result may not replace {self.compared_with}: {failed} of {len(self.checks)} checks failed: "
                f"{failures_in_a_line(self.checks)}"
            )


def published_as_champion(store: Store, candidate: Candidate, name: str) -> Version | None:
    """Return the present champion if it is this very result, which then need not pass again."""
    champion = _champion(store, name)
    if champion and champion.files[_WEIGHTS].sha256 == _weights(store, candidate.trained):
        return champion
    return None


def gate_run(store: Store, candidate: Candidate, name: str) -> Verdict:
    """Compare a run's result with the champion, on the prompts that the run asked both.

    Before there is a champion, the adapter that the settings name as such stands in for it, or the unaligned model.

    Raises:
        GateError: the run compared its result with another champion than the present one, or with none.
    """
    artifacts, settings = candidate.artifacts, candidate.settings
    champion = _champion(store, name)
    if champion and (CHAMPION not in artifacts or not _is_compared(store, artifacts[CHAMPION], champion)):
        raise GateError(_not_compared(candidate, champion))
    stand_in = settings.models.champion
    opponent = CHAMPION if champion or stand_in else UNALIGNED
    checks = run_gate(
        _contender(store, artifacts[EVALUATION.path(opponent)]),
        _contender(store, artifacts[EVALUATION.path(ALIGNED)]),
        [_reward(store, artifacts, label) for label in settings.reward_labels],
        _balance(store, artifacts),
        settings.promotion,
    )
    if champion:
        return Verdict(checks, champion.version, f"champion {champion.version}")
    return Verdict(checks, None, f"the adapter {stand_in}" if stand_in else "the unaligned model")


def publish_run(store: Store, candidate: Candidate, name: str, verdict: Verdict) -> Version:
    """Publish a run's result as an immutable version and make it the champion.

    Raises:
        GateError: a check failed, or the champion is another by now.
        ModelError: the adapter is in no layout that other programs load.
    """
    verdict.require_passed()
    registry, version = Registry(store), version_of(candidate.run_id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_version(folder, store, candidate, _evidence(store, candidate, verdict), name)
        published = registry.publish(name, version, folder, _about(candidate, verdict))
    registry.promote(name, version, replaces=verdict.replaces, run_id=candidate.run_id)
    return published


def _champion(store: Store, name: str) -> Version | None:
    registry = Registry(store)
    move = registry.champion(name)
    return registry.version(name, move.version) if move else None


def _is_compared(store: Store, compared: ArtifactRef, champion: Version) -> bool:
    return champion.files[_WEIGHTS].sha256 == _weights(store, compared)


def _weights(store: Store, ref: ArtifactRef) -> str:
    return store.manifest(ref).files[_WEIGHTS].sha256


def _not_compared(candidate: Candidate, champion: Version) -> str:
    compared = candidate.settings.models.champion
    return (
        f"run {candidate.run_id} compared its result with {compared or 'the unaligned model'}, but the champion of "
        f"{champion.name!r} is {champion.version}; run again with promote = {champion.name} (dr-irl run --promote "
        f"{champion.name}), which compares with that one: stages that do not change are taken from the store"
    )


def _contender(store: Store, ref: ArtifactRef) -> Contender:
    folder = store.fetch(ref)
    return Contender(read_summary(folder), Answer.read(folder / ANSWERS))


def _balance(store: Store, artifacts: Mapping[str, ArtifactRef]) -> BalanceSummary:
    return BalanceSummary(**json.loads((store.fetch(artifacts["balance"]) / BALANCE).read_text()))


def _reward(store: Store, artifacts: Mapping[str, ArtifactRef], label: str) -> RewardSummary:
    training = json.loads((store.fetch(artifacts["panel"]) / label / TRAINING).read_text())
    return summarise_reward(
        label,
        RewardReading.read(store.fetch(artifacts["panel-report"]) / READINGS),
        train_rows=training["train_rows"],
        validation_gaps=training["gaps"],
        loss=training["losses"],
        curve=(),
    )


def _evidence(store: Store, candidate: Candidate, verdict: Verdict) -> Evidence:
    artifacts = candidate.artifacts
    nodes = [node for node in map(EVALUATION.path, MODELS) if node in artifacts]
    examples = read_examples(store.fetch(artifacts["balance"]), "train")
    return Evidence(
        balance=_balance(store, artifacts),
        sources=Counter(example.source for example in examples),
        models=[read_summary(store.fetch(artifacts[node])) for node in nodes],
        checks=verdict.checks,
        compared_with=verdict.compared_with,
        settings=candidate.settings.model_dump(mode="json"),
    )


def _write_version(folder: Path, store: Store, candidate: Candidate, evidence: Evidence, name: str) -> None:
    from tasks.models import policy_tokenizer  # seconds of imports, which looking at checks does without

    models, adapter = candidate.settings.models, folder / ADAPTER
    adapter.mkdir()
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(store.fetch(candidate.trained) / ADAPTER / file, adapter / file)
    require_servable(adapter)
    policy_tokenizer(candidate.settings).save_pretrained(folder / TOKENIZER)
    shutil.copyfile(store.fetch(candidate.artifacts["report"]) / REPORT, folder / REPORT)
    subject = Subject(
        name=name,
        version=version_of(candidate.run_id),
        run_id=candidate.run_id,
        base_model=models.policy,
        base_revision=models.policy_revision,
        lora_rank=lora_rank(adapter),
    )
    (folder / CARD).write_text(model_card(subject, evidence))


def _about(candidate: Candidate, verdict: Verdict) -> dict[str, object]:
    models = candidate.settings.models
    return {
        "run_id": candidate.run_id,
        "base_model": models.policy,
        "base_revision": models.policy_revision,
        "compared_with": verdict.compared_with,
        "checks": [asdict(check) for check in verdict.checks],
        "bounds": candidate.settings.promotion.model_dump(mode="json"),
    }
