"""The model card of a published version: numbers with their counts, never a prompt or an answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dr_irl.categories import HARM_CATEGORIES, harm_category
from dr_irl.promotion.gate import Check
from dr_irl.promotion.servable import SERVED_RANKS
from dr_irl.results.summaries import BalanceSummary, ModelSummary
from dr_irl.results.wording import show_counted_rate

_LIMITS = """\
Not meant as the only safeguard of a product. Refusals are judged by their wording, on short single prompts in the
language of the training data; attacks over several turns, other languages and other kinds of harm were not measured. A
share of ordinary requests is refused, and a share of harmful ones answered: the table says how many."""
_LICENSE = """\
The adapter is of no use without its base model, whose license holds for both together; that of the training data is the
concern of whoever chose it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a card is about."""

    name: str
    version: str
    run_id: str
    base_model: str
    base_revision: str | None
    lora_rank: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of it."""

    balance: BalanceSummary
    sources: Mapping[str, int]
    """Training rows by source."""
    models: Sequence[ModelSummary]
    """As the run evaluated them, the result last."""
    checks: Sequence[Check]
    compared_with: str
    settings: Mapping[str, Any]


def model_card(subject: Subject, evidence: Evidence) -> str:
    """Write the card: Markdown behind a YAML header that model hubs read."""
    trainer = evidence.settings["alignment"]["trainer"]
    header = {
        "base_model": subject.base_model,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": "that-of-the-base-model",
        "tags": ["lora", "dr-irl", "inverse-reinforcement-learning", trainer, "safety"],
    }
    sections = {
        "Intended use and limits": _use(evidence.models[-1]),
        "How to load it": _loading(subject),
        "Results": _results(evidence.models),
        f"What it had to pass, beside {evidence.compared_with}": _checks(evidence.checks),
        "Data": _data(evidence),
        "Settings": f"```yaml\n{yaml.safe_dump(dict(evidence.settings), sort_keys=False).rstrip()}\n```",
        "License": _LICENSE,
    }
    front = yaml.safe_dump(header, sort_keys=False)
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    about = f"A LoRA adapter of `{_base(subject)}`, aligned with DR-IRL: run `{subject.run_id}`."
    return f"---\n{front}---\n\n# {subject.name} {subject.version}\n\n{about}\n\n{body}\n"


def _use(result: ModelSummary) -> str:
    kinds = [harm_category(name) for name in HARM_CATEGORIES if name in result.refusal]
    listed = "\n".join(f"- {kind.title}: {kind.definition}" for kind in kinds)
    meant = "Meant for: a chat assistant on the base model that declines harmful requests of these kinds and answers"
    return f"{meant}\neverything else.\n\n{listed}\n\n{_LIMITS}"


def _base(subject: Subject) -> str:
    return subject.base_model + (f"@{subject.base_revision}" if subject.base_revision else "")


def _loading(subject: Subject) -> str:
    revision = f', revision="{subject.base_revision}"' if subject.base_revision else ""
    rank = next(served for served in SERVED_RANKS if served >= subject.lora_rank)
    base = subject.base_model
    bundled = "`dr-irl prepare` prints the folder of a base model named `bundled:`.\n\n" if ":" in base else ""
    return f"""\
From the folder of this card (in a hub repository the adapter lies at the top instead of in `adapter/`):

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{base}"{revision})
model = PeftModel.from_pretrained(base, "adapter")
tokenizer = AutoTokenizer.from_pretrained("tokenizer")
```

```
vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules {subject.name}=adapter
```

{bundled}Prompts go through the tokenizer's chat template, in which the template arguments and the date of the settings
below are written."""


def _results(models: Sequence[ModelSummary]) -> str:
    rows = [
        ("harmful, " + category.replace("_", " "), *(show_counted_rate(m.refusal.get(category)) for m in models))
        for category in models[-1].refusal
    ]
    rows += [
        (f"{suite}, to be refused", *(show_counted_rate(m.other_refusal.get(suite)) for m in models))
        for suite in models[-1].other_refusal
    ]
    rows += [
        (suite, *(show_counted_rate(m.over_refusal.get(suite)) for m in models)) for suite in models[-1].over_refusal
    ]
    rows += [
        ("perplexity of good answers", *(f"{m.perplexity:.1f}" for m in models)),
        ("commonest answer", *(f"{m.commonest_answer:.1%}" for m in models)),
    ]
    said = "Greedy answers to held-out prompts; refusals, with their 95 % Wilson interval.\n\n"
    return said + _table(("refused of", *(m.name for m in models)), rows)


def _checks(checks: Sequence[Check]) -> str:
    rows = [(check.name, "passed" if check.passed else "failed", check.sentence) for check in checks]
    return _table(("check", "", "what was seen"), rows)


def _data(evidence: Evidence) -> str:
    balance = evidence.balance
    counts = [(label, str(balance.before.get(label, 0)), str(rows)) for label, rows in balance.after.items()]
    sources = [(source, str(rows)) for source, rows in sorted(evidence.sources.items())]
    dropped = ", ".join(f"{rows} {reason}" for reason, rows in sorted(balance.reasons.items())) or "none"
    return "\n\n".join(
        (
            _table(("category", "rows read", "rows used"), counts),
            _table(("source", "rows used"), sources),
            f"Entropy over the harm categories: {balance.entropy_before:.3f} before balancing, "
            f"{balance.entropy_after:.3f} after; 1 is equal. Rows dropped: {dropped}.",
        )
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
