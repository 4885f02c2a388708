"""The model's own `forward` is the truth: which of our faster ways give its numbers, tried out on the model itself.

A few made-up sequences, short ones and one longer than a window, packed and alone, are scored and continued on each
rung of the ladder of `route.py` and by `forward`, one sequence at a time; the first rung that agrees is taken.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from dr_irl.errors import ModelError
from dr_irl.language.anatomy import context_length
from dr_irl.language.attention import SHORT_ROWS
from dr_irl.language.decoders import PackedDecoder, open_decoder
from dr_irl.language.decoding import open_reader
from dr_irl.language.logprobs import answer_logprobs
from dr_irl.language.own_head import head_of
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.proof.specimen import specimen_of, whole_specimen
from dr_irl.language.route import Decoding, Route, Scoring
from dr_irl.language.split import layer_count

logger = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Nats by which a log-probability or an entropy may differ; of reward models, the share of the largest state.

A sum in another order moves the last bits: float32 has 24 of them, float16 11, bfloat16 8, and log-probabilities of
unlikely tokens are near 20. A forgotten softcap, factor or window moves them by whole nats.
"""
_SHARED = 3
"""Tokens that the made-up prompts begin with."""
_LONG = 48
"""Tokens of the longest made-up prompt."""
_FORCED = 3
"""Tokens for which answers are continued."""
_LIKELIEST = 20
"""Of what comes next, so many tokens are compared."""


@torch.no_grad()
def find_route(model: PreTrainedModel, name: str) -> Route:
    """Try the rungs of the ladder from the fastest down and return the first that equals the model's own `forward`.

    Args:
        model: a language model, or a reward model's backbone, which is scored only; it stays as it is.
        name: what the model is called in messages.

    Raises:
        ModelError: none does.
    """
    try:
        specimen = specimen_of(model)
        _own(specimen, [0, 1])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # layers that need those above them, or have other names than any that are known
        logger.info("model %s is checked as a whole, not by a few of its layers: %s", name, error)
        specimen = whole_specimen(model)
        _check_runs(name, specimen)
    bundles = _bundles(specimen)
    if (head := getattr(specimen, "score", None)) is not None:
        with _stock_attention(specimen):
            states = _own_states(specimen, head, bundles)
        trials = [(rung, partial(_off_states, specimen, rung, bundles, states)) for rung in Scoring]
        scoring, why = _first(name, specimen, trials)
        return Route(scoring=Scoring(scoring), reason=why)
    with _stock_attention(specimen):
        scores, after = _own_scores(specimen, bundles), _own_continuations(specimen, bundles)
    _check_causal(name, specimen, scores, after)
    trials = [(rung, partial(_off_scores, specimen, rung, bundles, scores)) for rung in Scoring]
    scoring, why = _first(name, specimen, trials)
    trials = [(rung, partial(_off_continuations, specimen, rung, bundles, after)) for rung in Decoding]
    decoding, slow = _first(name, specimen, trials)
    return Route(Scoring(scoring), Decoding(decoding), reason="; ".join(filter(None, (why, slow))))


@contextmanager
def _stock_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend for a while as it does without us."""
    ours = model.config._attn_implementation == SHORT_ROWS
    if ours:
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if ours:
            model.set_attn_implementation(SHORT_ROWS)


def _check_runs(name: str, model: PreTrainedModel) -> None:
    """Refuse a model that fails by itself."""
    try:
        _own(model, [0, 1])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a family's code fails with
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(
            f"model {name!r} ({model.config.model_type}) fails in its own forward pass ({reason}); check its "
            "config.json and the version of transformers that it was made for"
        ) from error


def _first(name: str, model: PreTrainedModel, trials: Sequence[tuple[str, Callable[[], float]]]) -> tuple[str, str]:
    """Return the first rung whose numbers agree, and what was the matter with those before it."""
    allowed = TOLERANCE[model.dtype]
    failed: list[str] = []
    for rung, trial in trials:
        try:
            difference = trial()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a family may fail in any way on a rung that it was not made for
            failed.append(f"{rung}: {type(error).__name__}: {' '.join(str(error).split())[:100]}")
            continue
        if difference <= allowed:
            return rung, "; ".join(failed)
        failed.append(f"{rung}: off by {difference:.2g}")
    raise ModelError(
        f"model {name!r} ({model.config.model_type}) cannot be used: no way of ours gives the numbers of its own "
        f"forward pass ({'; '.join(failed)}; allowed is {allowed:g}); name a model of a family in docs/models.md"
    )


def _bundles(model: PreTrainedModel) -> list[Bundle]:
    """Make up prompts with answers, of different length, which begin alike; the last prompt exceeds a window."""
    generator = torch.Generator().manual_seed(0)
    config = model.config.get_text_config()
    own = {getattr(config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    most = min(int(config.vocab_size), cast(Any, model.get_input_embeddings()).num_embeddings)

    def drawn(count: int) -> list[int]:
        tokens = torch.randint(most, (2 * count + 8,), generator=generator).tolist()
        return [token for token in tokens if token not in own][:count]

    shared = drawn(_SHARED)
    long = min(_LONG, (context_length(config) or _LONG) - _SHARED - 8)
    return [
        Bundle([*shared, *drawn(4)], [drawn(5), drawn(2), [], drawn(4)]),
        Bundle([*shared, *drawn(13)], [drawn(3), drawn(6)]),
        Bundle([*shared, *drawn(max(long, 2))], [drawn(4)]),
    ]


def _packs(model: PreTrainedModel, bundles: Sequence[Bundle]) -> Packed:
    return pack(bundles, pad=0, shared=_SHARED, device=model.device)


def _pairs(bundles: Sequence[Bundle]) -> list[tuple[list[int], list[int]]]:
    return [(list(bundle.prompt), list(answer)) for bundle in bundles for answer in bundle.answers]


def _own(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    row = torch.tensor([list(ids)], device=model.device)
    return model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0]


def _own_scores(model: PreTrainedModel, bundles: Sequence[Bundle]) -> list[Float[Tensor, "tokens vocabulary"]]:
    """Log-probabilities of all tokens before each token of every answer."""
    return [
        _own(model, [*prompt, *answer])[len(prompt) - 1 : -1].float().log_softmax(dim=-1)
        for prompt, answer in _pairs(bundles)
        if answer
    ]


def _own_continuations(model: PreTrainedModel, bundles: Sequence[Bundle]) -> list[Float[Tensor, "tokens vocabulary"]]:
    """The same of the first answers, with nothing after the token that is predicted from."""
    return [
        torch.stack(
            [_own(model, [*b.prompt, *b.answers[0][:n]])[-1].float().log_softmax(dim=-1) for n in range(_FORCED)]
        )
        for b in bundles
    ]


def _own_states(model: PreTrainedModel, head: nn.Module, bundles: Sequence[Bundle]) -> Float[Tensor, "answers hidden"]:
    """What the score is computed from, at the last token of every answer."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, -1]))
    try:
        for prompt, answer in _pairs(bundles):
            _own(model, [*prompt, *answer])
    finally:
        hook.remove()
    return torch.stack(seen)


def _check_causal(name: str, model: PreTrainedModel, scores: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Refuse a model in whose forward pass later tokens change earlier predictions."""
    firsts = [scores[0], scores[3], scores[5]]
    apart = max(_apart(s[: len(a)], a[: len(s)]) for s, a in zip(firsts, after, strict=True))
    if not apart <= TOLERANCE[model.dtype]:
        raise ModelError(
            f"model {name!r} ({model.config.model_type}) is no causal language model: what it predicts after a token "
            f"differs by {apart:.2g} nats once more tokens follow; name a model that generates text from left to right"
        )


def _apart(first: Float[Tensor, "tokens vocabulary"], second: Float[Tensor, "tokens vocabulary"]) -> float:
    """Largest difference over the likeliest tokens."""
    top = second.topk(min(_LIKELIEST, second.shape[-1]), dim=-1).indices
    return float((first.gather(1, top) - second.gather(1, top)).abs().max())


def _off_scores(model: PreTrainedModel, rung: str, bundles: Sequence[Bundle], own: Sequence[Tensor]) -> float:
    """Largest difference of a log-probability or an entropy."""
    head, found = head_of(model), 0.0
    expected = dict(zip([i for i, (_, answer) in enumerate(_pairs(bundles)) if answer], own, strict=True))
    for decoder in _decoders(model, Scoring(rung)):
        packed = _packs(model, bundles)
        scored = answer_logprobs(decoder.states(decoder.features(packed), packed), head, packed)
        for row, theirs in expected.items():
            ids = packed.answer_ids[row, : len(theirs)]
            entropy = -(theirs.exp() * theirs).sum(dim=-1)
            chosen = theirs.gather(1, ids[:, None])[:, 0]
            for ours, truth in ((scored.logprobs, chosen), (scored.entropy, entropy)):
                found = _worse(found, (ours[row, : len(theirs)] - truth).abs().max())
    return found


def _off_states(model: PreTrainedModel, rung: str, bundles: Sequence[Bundle], own: Tensor) -> float:
    """Largest difference of a state, as a share of the largest state."""
    found = 0.0
    for decoder in _decoders(model, Scoring(rung)):
        packed = _packs(model, bundles)
        states = decoder.states(decoder.features(packed), packed).flatten(0, 1)[packed.last]
        found = _worse(found, (states.float() - own.float()).abs().max() / own.float().abs().max())
    return found


def _off_continuations(model: PreTrainedModel, rung: str, bundles: Sequence[Bundle], own: Sequence[Tensor]) -> float:
    """Largest difference of a likely token's log-probability while answers grow, one of two rows dropped half-way."""
    together = [list(range(len(bundles)))] if rung == Decoding.SHARED else [[i] for i in range(len(bundles))]
    found = 0.0
    for batch in together:
        reader = open_reader(model, Decoding(rung), pad=0, shared=_SHARED)
        logits = reader.start([bundles[i].prompt for i in batch], 2)
        rows = [i for i in batch for _ in range(2)]
        for place in range(_FORCED):
            theirs = torch.stack([own[i][place] for i in rows])
            found = _worse(found, torch.tensor(_apart(logits.float().log_softmax(dim=-1), theirs)))
            if place + 1 == _FORCED:
                break
            if place == 0:
                reader.keep(torch.arange(1, len(rows), device=model.device))
                rows = rows[1:]
            logits = reader.step(torch.tensor([bundles[i].answers[0][place] for i in rows], device=model.device))
    return found


def _worse(found: float, difference: Tensor) -> float:
    """The larger one; a number that is none is the largest."""
    value = float(difference)
    return value if value > found or math.isnan(value) else found


def _decoders(model: PreTrainedModel, rung: Scoring) -> Iterator[PackedDecoder]:
    """Give the decoders of a rung: split near the top, in the middle, and below all layers."""
    if rung != Scoring.SPLIT:
        yield open_decoder(model, upper_layers=1, rung=rung)
        return
    layers = layer_count(model)
    for upper in sorted({1, (layers + 1) // 2, layers}):
        yield open_decoder(model, upper_layers=upper, rung=rung)
