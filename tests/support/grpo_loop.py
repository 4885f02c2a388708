"""The GRPO loop on the tiny model, with rewards that can be read off a text."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from peft import PeftModel
from torch import Tensor

from dr_irl.alignment import Alignment, Distances
from dr_irl.categories import BENIGN
from dr_irl.language.adapters import add_policy_adapter, merge_adapter_into, share_weights
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler, Sample, Sampler
from dr_irl.policy.options import GrpoOptions
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.policy.step_log import LoopState
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.options import ScalingRule
from dr_irl.snapshot import NO_CHECKPOINTS, Checkpoints, trainable_by_name

NAME = "bundled:tiny-random-lm"
LETTER = "P"
PROMPTS = [
    TrainingPrompt("i", "mock him", "insult", "PPP", 0.6, 0.5),
    TrainingPrompt("p", "hurt him", "physical_harm", "PP", 0.3, 0.5),
    TrainingPrompt("b", "hi", BENIGN, "P", 0.0, 0.0),
]
MAX_TOKENS = 12
grpo = partial(
    GrpoOptions,
    steps=2,
    prompts_per_step=3,
    group_size=6,
    benign_ratio=1 / 3,
    learning_rate=0.02,
    kl_weight=0.01,
    micro_batch_tokens=512,
    adapted_layers=2,
    alarm="off",
)
OPTIONS = grpo()
RESUMED = grpo(steps=4, iterations=2)
RULE = ScalingRule(tau=1.0, rescale=False)
EMA = RULE.model_copy(update={"reference": "ema"})


class LetterPanel(RewardPanel):
    """Rewards an answer by its share of one letter; needs no model."""

    def __init__(self) -> None:
        """Hold nothing."""

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        return torch.tensor([text.count(LETTER) / max(1, len(text)) for text in responses])


class ConstantPanel(LetterPanel):
    """Gives every answer the same reward."""

    def __init__(self, value: float) -> None:
        """Give `value`."""
        self.value = value

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        return torch.full((len(responses),), self.value)


class CutSampler:
    """Every completion ran into the length limit, and half of them earn a reward."""

    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        pair = [Sample((40,), LETTER, True), Sample((50,), "x", True)]
        return [[pair[k % 2] for k in range(per_prompt)] for _ in prompts]


class Run:
    """The loop with all it needs, from the same start every time."""

    def __init__(
        self,
        panel: RewardPanel,
        options: GrpoOptions = OPTIONS,
        rule: ScalingRule = RULE,
        *,
        rank: int = 4,
        distances: Distances | None = None,
    ) -> None:
        model = load_causal_lm(NAME, dtype=torch.float32)
        # As it comes, the tiny model's output is too near uniform to express a preference.
        model.get_decoder().norm.weight.mul_(10.0)
        tokenizer = load_tokenizer(NAME)
        self.sampled = share_weights(model)
        generator = torch.Generator().manual_seed(0)
        self.policy: PeftModel = add_policy_adapter(
            model, rank=rank, adapted_layers=2, target_modules=["q_proj", "v_proj", "o_proj"], generator=generator
        )
        self.start = self.weights()
        self.loop = Alignment(
            self.policy, tokenizer, panel, options, rule, max_tokens=MAX_TOKENS, seed=5, distances=distances
        )
        self.sampler: Sampler = CachedPrefixSampler(self.sampled, tokenizer, max_new_tokens=MAX_TOKENS)
        self.reports: list[dict[str, float]] = []
        self.report: Callable[[dict[str, float]], object] = self.reports.append

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in trainable_by_name(self.policy).values()]

    def go(self, checkpoints: Checkpoints = NO_CHECKPOINTS, prompts: Sequence[TrainingPrompt] = PROMPTS) -> LoopState:
        return self.loop.run(
            prompts,
            self.sampler,
            refresh_sampler=lambda: merge_adapter_into(self.sampled, self.policy),
            judge=lambda _, text: LETTER in text,
            report=self.report,
            checkpoints=checkpoints,
        )


def logged(state: LoopState, name: str, category: str = "all") -> list[float]:
    return [record.value for record in state.logged if (record.name, record.category) == (name, category)]


def history(state: LoopState) -> str:
    """Leave out what differs between any two runs: how long they took. As text: NaN is not equal to itself."""
    return repr(replace(state, logged=[record for record in state.logged if not record.name.startswith("seconds_")]))
