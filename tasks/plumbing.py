"""What stages run through and no artifact depends on: the one list of code that fingerprints leave out.

An entry must shape no byte of any artifact. `tests/tasks/test_stages.py` holds that nothing else is left out.
"""

from collections.abc import Mapping

LEFT_OUT: Mapping[str, str] = {
    "dr_irl.__init__": "the front door; what is asked for by it counts where it is defined",
    "dr_irl.artifacts": "where artifacts lie and whether they are whole; what is read from them counts as an input",
    "dr_irl/demonstrations/seed": "counts by its contents, in the settings of a run that reads it",
    "dr_irl.errors": "how an error reads; a stage that fails leaves no artifact",
    "dr_irl.progress": "who hears of progress",
    "dr_irl.language.proof": "which of several ways that give the same numbers a model is run; each way counts itself",
    "dr_irl.language.samplers": "which name stands for what; what is named in the settings counts: `Stage.named`",
    "dr_irl.registry": "finds a thing by its name; what is named in the settings counts: `Stage.named`",
    "dr_irl.reward.objectives": "which name stands for what; what is named in the settings counts: `Stage.named`",
    "tasks.checkpoints": "when a loop's state is kept; what it is and how to go on from it is in dr_irl.snapshot",
    "tasks.job": "what a stage is given: settings, inputs and checkpoints count themselves",
    "tasks.orchestration": "when a stage is built, stopped and shown; its settings and inputs count themselves",
}
"""Module with all below it, `package.__init__` alone, or folder of a package's data -> why.

Constants in it count where they are used.
"""

BY_VALUE = (
    "dr_irl.config",
    "dr_irl.policy.options",
    "dr_irl.promotion.bounds",
    "dr_irl.reward.options",
    "dr_irl.scaling.options",
    "dr_irl.section",
)
"""The classes of settings. Their values count, as a stage reads them; of their code only what a stage may call does."""
