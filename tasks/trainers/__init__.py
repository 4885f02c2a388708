"""Ways to train the policy: a file each and a line here; another package brings one by an entry point.

    [project.entry-points."dr_irl.trainers"]
    mine = "my_package.trainer:MINE"

`alignment.trainer` names the one that a run uses. Light to import: a plan needs no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dr_irl.config import Settings
from dr_irl.errors import SettingsError
from dr_irl.registry import Registry
from tasks.stages import Stage


def _nothing_to_refuse(settings: Settings) -> Mapping[str, bool]:
    del settings
    return {}


def _one(settings: Settings) -> int:
    del settings
    return 1


@dataclass(frozen=True)
class Trainer:
    """One way to train the policy."""

    stage: Stage
    """Its node in the DAG. What it makes holds `adapter/`, the trained policy, in PEFT's format; where it logs steps,
    also `steps.parquet` and `scaling.parquet` (`dr_irl.records`)."""
    preview: Callable[[Settings], str]
    """A line that says what it will do."""
    warm_start: bool = True
    """Whether a warm start goes before it, where one is asked for."""
    rewards: bool = True
    """Whether it reads the reward models (`panel`) and `hardness`; `balance` it always reads."""
    problems: Callable[[Settings], Mapping[str, bool]] = field(default=_nothing_to_refuse)
    """What it cannot do, in words that name setting, value and what is allowed -> whether these settings ask for it."""
    processes: Callable[[Settings], int] = field(default=_one)
    """How many processes train, each on a device of its own."""

    def check(self, settings: Settings) -> None:
        """Refuse settings that it would take for something else, all of it at once.

        Raises:
            SettingsError: names every setting that it cannot honour.
        """
        if found := [problem for problem, applies in self.problems(settings).items() if applies]:
            raise SettingsError(
                f"alignment.trainer = {settings.alignment.trainer} cannot honour {'; nor '.join(found)}"
            )


TRAINERS: Registry[Trainer] = Registry(
    "trainer",
    "dr_irl.trainers",
    {
        "grpo": "tasks.trainers.grpo:GRPO",
        "grpo-trl": "tasks.trainers.grpo_trl:GRPO_TRL",
        "sft": "tasks.trainers.sft:SFT",
    },
)
"""Name in `alignment.trainer` -> what trains."""


def warm_starts(settings: Settings) -> bool:
    """Tell whether a warm start goes before the training."""
    return bool(settings.warm_start.steps) and settings.models.start == "base" and trainer_of(settings).warm_start


def trained_by(settings: Settings) -> str:
    """Return the node of the DAG whose artifact holds the trained policy."""
    return trainer_of(settings).stage.name


def trainer_of(settings: Settings) -> Trainer:
    """Return the trainer that the settings name.

    Raises:
        SettingsError: there is none of this name.
    """
    try:
        return TRAINERS[TRAINERS.check(settings.alignment.trainer)]
    except ValueError as error:
        raise SettingsError(f"alignment.trainer: {error}") from None
