"""One policy update: from completions with advantages to new adapter weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dr_irl.errors import DivergenceError
from dr_irl.language.adapters import reference_active
from dr_irl.language.chat import padding_id, preamble_length, prompt_ids
from dr_irl.language.decoders import open_decoder
from dr_irl.language.logprobs import AnswerLogprobs, answer_logprobs
from dr_irl.language.masks import micro_batches
from dr_irl.language.own_head import head_of
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.policy.objective import clipped_surrogate, kl_estimate, sequence_means, token_weights
from dr_irl.policy.options import GrpoOptions
from dr_irl.policy.rollouts import Rollouts
from dr_irl.snapshot import trainable_by_name


class Learner:
    """Holds the policy that learns, with its optimiser; its `reference` adapter (or none) is pi_ref."""

    def __init__(
        self, policy: PeftModel, tokenizer: PreTrainedTokenizerBase, options: GrpoOptions, *, max_tokens: int
    ) -> None:
        """Prepare to train `policy` in place on completions of at most `max_tokens` tokens."""
        self.policy, self.tokenizer, self.options, self.max_tokens = policy, tokenizer, options, max_tokens
        self.parameters = trainable_by_name(policy)
        self.optimiser = torch.optim.AdamW(list(self.parameters.values()), lr=options.learning_rate, weight_decay=0.0)
        self._decoder = open_decoder(policy, upper_layers=options.adapted_layers)
        self._head = head_of(policy)

    def learn(
        self, rollouts: Rollouts, advantages: Float[Tensor, "prompts group"], *, rate_factor: float
    ) -> dict[str, float]:
        """Update the policy on one batch of completions: `iterations` passes of `minibatches` steps each.

        Args:
            rollouts: the completions.
            advantages: A_ik.
            rate_factor: what the learning rate is multiplied by.

        Returns:
            What the last pass measured before each of its steps, averaged over them: loss, kl, entropy, clipped, and
            the gradient's norm.

        Raises:
            DivergenceError: loss or gradient is not finite. The weights are those before the step that failed.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * rate_factor
        count = self.options.minibatches
        parts = [range(start, len(rollouts.prompts), count) for start in range(count)]
        steps = [self.lay_out(rollouts, advantages, rows) for rows in parts if rows]
        measured: list[dict[str, float]] = []
        for _ in range(self.options.iterations):
            measured = [self._step(batches) for batches in steps]
        return {name: sum(m[name] for m in measured) / len(measured) for name in measured[0]}

    def accumulate(self, batches: Sequence["MicroBatch"]) -> dict[str, float]:
        """Add the gradient of the loss over the micro-batches to the adapters'; returns what it measured."""
        options = self.options
        measured: dict[str, float] = dict.fromkeys(("loss", "kl", "entropy", "clipped"), 0.0)
        for batch in batches:
            current = self._logprobs(batch.packed, batch.features)
            if batch.old is None:
                batch.old = current.logprobs.detach()
            surrogate = clipped_surrogate(
                current.logprobs, batch.old, batch.advantages, clip=options.clip, clip_high=options.clip_high
            )
            kl = kl_estimate(current.logprobs, batch.reference)
            counted = batch.packed.answer * batch.weights[:, None]
            loss = ((options.kl_weight * kl - surrogate) * counted).sum()
            loss.backward()
            unclipped = (current.logprobs.detach() - batch.old).exp() * batch.advantages[:, None]
            readings = {"kl": kl.detach(), "entropy": current.entropy, "clipped": (surrogate < unclipped).float()}
            measured["loss"] += loss.item()
            for name, values in readings.items():
                measured[name] += float((sequence_means(values, batch.packed.answer) * batch.shares).sum())
        return measured

    @torch.no_grad()
    def lay_out(
        self, rollouts: Rollouts, advantages: Float[Tensor, "prompts group"], rows: Sequence[int]
    ) -> list["MicroBatch"]:
        """Lay some groups out in micro-batches, with all that does not change while the policy learns from them."""
        questions = prompt_ids(self.tokenizer, [rollouts.prompts[row].text for row in rows])
        samples = [rollouts.samples[row] for row in rows]
        bundles = [Bundle(q, [s.token_ids for s in group]) for q, group in zip(questions, samples, strict=True)]
        masked = self.options.mask_truncated
        counted = torch.tensor([[not (masked and s.truncated) for s in group] for group in samples])
        lengths = torch.tensor([[len(s.token_ids) for s in group] for group in samples]) * counted
        weights = token_weights(lengths.flatten(), loss_type=self.options.loss_type, max_tokens=self.max_tokens)
        weights = weights.view_as(lengths) * counted
        shares = counted / counted.numel()
        batches: list[MicroBatch] = []
        pad, shared = padding_id(self.tokenizer), preamble_length(self.tokenizer)
        for few in micro_batches([len(bundle) - shared for bundle in bundles], self.options.micro_batch_tokens):
            packed = pack([bundles[i] for i in few], pad=pad, shared=shared, device=self.policy.device)
            features = self._decoder.features(packed)
            with reference_active(self.policy):
                reference = self._logprobs(packed, features).logprobs
            # The policy before its first step sampled them; later steps of the pass find it changed.
            old = self._logprobs(packed, features).logprobs if self.options.minibatches > 1 else None
            columns = advantages[[rows[i] for i in few]], weights[few], shares[few]
            placed = [column.flatten().to(packed.ids.device) for column in columns]
            batches.append(MicroBatch(packed, features, reference, *placed, old=old))
        return batches

    def _step(self, batches: Sequence["MicroBatch"]) -> dict[str, float]:
        self.optimiser.zero_grad()
        measured = self.accumulate(batches)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.options.max_grad_norm)
        if not torch.isfinite(norm):
            raise DivergenceError(
                f"the gradient of the policy's loss is not finite (loss {measured['loss']}); lower grpo.learning_rate"
            )
        self.optimiser.step()
        return measured | {"grad_norm": float(norm)}

    def _logprobs(self, packed: Packed, features: Float[Tensor, "rows length hidden"]) -> AnswerLogprobs:
        states = self._decoder.states(features, packed)
        return answer_logprobs(states, self._head, packed, temperature=self.options.temperature)


@dataclass
class MicroBatch:
    """Some groups in one pass."""

    packed: Packed
    features: Float[Tensor, "rows length hidden"]
    reference: Float[Tensor, "answers tokens"]
    """log pi_ref."""
    advantages: Float[Tensor, " answers"]
    weights: Float[Tensor, " answers"]
    """Of each token in the loss; 0 where the completion is masked."""
    shares: Float[Tensor, " answers"]
    """Of each completion in what is logged."""
    old: Float[Tensor, "answers tokens"] | None = None
    """log pi when the completions were sampled; None: the policy is still the one that sampled them."""
