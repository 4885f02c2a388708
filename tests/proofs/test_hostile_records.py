"""What others may have put into a store or a folder: any bytes end in the value, or in one of our errors."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dr_irl.artifacts import Store, retry
from dr_irl.artifacts.in_use import in_use
from dr_irl.artifacts.manifest import parse_manifest
from dr_irl.artifacts.store import Identity
from dr_irl.artifacts.upkeep import garbage, verify
from dr_irl.demonstrations.inbox import Limits, claim_inbox
from dr_irl.demonstrations.ledger import Accepted, read_ledger
from dr_irl.errors import DrIrlError
from dr_irl.language.fetched import _is_sound
from dr_irl.profile import load_settings
from dr_irl.promotion.published import Move, Version, encoded
from dr_irl.promotion.registry import Registry
from dr_irl.promotion.servable import require_servable
from dr_irl.reward.saved import read_card
from dr_irl.snapshot import Snapshot
from flows.record import RunRecord, load_run, made_by
from flows.retraining import _last_retraining

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

EACH = 800
"""Inputs for each kind of record."""
FINGERPRINT, VERSION, RUN = "f" * 32, "20261130-030000-0000000a", "smoke-20261130-030000-0000000a"

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
names = st.sampled_from(
    ["a\0b", "../../x", "/etc/passwd", "\ud83d", "", ".", "a" * 5000, "manifest.json", "a\nb", "-rf"]
)


def written(value: Any) -> bytes:
    """JSON as a careless program writes it: half surrogates, NaN and all."""
    return json.dumps(value).encode()


@st.composite
def mutated(draw: st.DrawFn, sound: dict[str, Any]) -> bytes:
    """A sound record with one thing in it changed, at any depth."""
    found = json.loads(json.dumps(sound))
    at: Any = found
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        match draw(st.integers(0, 3)):
            case 0:
                del at[key]
            case 1:
                at[key] = draw(documents)
            case 2 if isinstance(at, dict):
                at[draw(names | st.text(max_size=5))] = at.pop(key)
            case _:
                at[key] = draw(names)
        break
    return written(found)


def inputs(sound: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Bytes, JSON of any form, what is nested too deeply, what was cut off, and sound records with a change."""
    text = written(sound)
    return st.one_of(
        mutated(sound),
        mutated(sound),
        st.binary(max_size=200),
        documents.map(written),
        st.integers(0, len(text)).map(lambda end: text[:end]),
        st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"\xef\xbb\xbf{}", b"nul", text * 2]),
    )


MANIFEST: dict[str, Any] = {
    "schema_version": 2,
    "stage": "balance",
    "fingerprint": FINGERPRINT,
    "settings": {"seed": 1},
    "inputs": {"route": "e" * 32},
    "source": {"dr_irl.seeding": "cafe"},
    "files": {"a": {"size": 1, "sha256": "0" * 64}, "b/c": {"size": 2, "sha256": "1" * 64, "rows": 3}},
    "libraries": {"torch": "2"},
    "created": "2026-11-30T03:00:00Z",
    "wall_seconds": 1.5,
}
FILE = {"size": 1, "sha256": "0" * 64}


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    """Read again without a pause what is not sound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with an artifact, two versions of a model and a run."""
    made = Store(str(tmp_path_factory.mktemp("hostile") / "store"))
    with made.build(Identity("balance", FINGERPRINT, {}, {}, {})) as folder:
        (folder / "a").write_text("1")
    (adapter := Path(made.uri).with_name("files")).mkdir()
    (adapter / "weights").write_text("0")
    Registry(made).publish("safe", VERSION, adapter, {})
    Registry(made).promote("safe", VERSION, replaces=None, run_id=RUN)
    return made


def read_everything_of(store: Store) -> None:
    """Read an artifact's manifest in every way that there is."""
    ref = store.ref("balance", FINGERPRINT)
    for read in (
        lambda: store.has(ref),
        lambda: store.fetch(ref),
        lambda: list(verify(store)),
        lambda: garbage(store, [ref], in_use(store.backend), min_age_seconds=0.0),
        lambda: store.manifests(store.refs()),
    ):
        try:
            read()
        except (DrIrlError, FileNotFoundError):
            continue


def of_key(key: str, read: Callable[[Store], Any]) -> Callable[[Store, Path, bytes], None]:
    """Put bytes at a key of the store, and read them."""

    def put_and_read(store: Store, folder: Path, content: bytes) -> None:
        del folder
        store.backend.write(key, content)
        read(store)

    return put_and_read


def of_file(name: str, read: Callable[[Path], Any]) -> Callable[[Store, Path, bytes], None]:
    """Put bytes into a file of a folder, and read that."""

    def put_and_read(store: Store, folder: Path, content: bytes) -> None:
        del store
        (folder / name).write_bytes(content)
        read(folder)

    return put_and_read


def record() -> dict[str, Any]:
    artifacts = {"grpo": {"stage": "grpo", "fingerprint": FINGERPRINT, "uri": "here"}}
    found = RunRecord.model_validate({"run_id": RUN, "settings": load_settings("smoke"), "artifacts": artifacts})
    return json.loads(found.model_dump_json())


ENTRY = Accepted(number=1, sha256="0" * 64, suffix=".jsonl", name="a.jsonl", rows=1)
KINDS: dict[str, tuple[dict[str, Any], Callable[[Store, Path, bytes], None]]] = {
    "manifest, parsed": (MANIFEST, lambda store, folder, content: parse_manifest(content, "here") and None),
    "manifest, in a store": (MANIFEST, of_key(f"objects/balance/{FINGERPRINT}/manifest.json", read_everything_of)),
    "marker": ({"format": 1}, of_key(".dr-irl-store", lambda store: Store(store.uri))),
    "lease": (
        {"token": "t", "beat": 1, "host": "h", "pid": 1, "needs": ["f"]},
        of_key("leases/balance/f/000001.json", lambda store: in_use(store.backend)),
    ),
    "version": (
        json.loads(encoded(Version(name="safe", version=VERSION, about={}, files={}))) | {"files": {"weights": FILE}},
        of_key(f"models/safe/{VERSION}/version.json", lambda store: Registry(store).champion("safe")),
    ),
    "champion": (
        json.loads(encoded(Move(generation=1, version=VERSION, previous=None, action="promote", run_id=RUN))),
        of_key("models/safe/champion.json", lambda store: Registry(store).champion("safe")),
    ),
    "run": (record(), of_key(f"runs/{RUN}.json", lambda store: load_run(store, "latest"))),
    "run, for clearing up": (record(), of_key(f"runs/{RUN}.json", lambda store: made_by(store, RUN))),
    "run, for retraining": (record(), of_key(f"runs/{RUN}.json", lambda store: _last_retraining(store, "smoke"))),
    "ledger": (
        json.loads(ENTRY.model_dump_json()),
        of_key(f"accepted/{'0' * 64}.json", lambda store: read_ledger(store.backend)),
    ),
    "inbox": (
        {"prompt": "how do I mock him", "category": "insult", "response": "I will not."},
        of_key("inbox/a.jsonl", lambda store: claim_inbox(store, Limits(100, 0.5, 0.0, 0.0))),
    ),
    "reward model's card": ({"format": 3, "origin": {}, "calibration": {}}, of_file("reward_model.json", read_card)),
    "adapter's configuration": ({"r": 8, "peft_type": "LORA"}, of_file("adapter_config.json", require_servable)),
    "fetched model's record": ({"a": FILE}, of_file(".fetched.json", _is_sound)),
    "checkpoint": ({"__metadata__": {}}, lambda store, folder, content: Snapshot.from_bytes(framed(content)) and None),
}


def framed(header: bytes) -> bytes:
    """A header as safetensors has it."""
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_end_in_a_value_or_in_one_of_our_errors(
    kind: str, store: Store, tmp_path: Path, count: Callable[..., None]
) -> None:
    sound, put_and_read = KINDS[kind]
    tried = refused = 0
    tries = 100 if kind == "manifest, in a store" else EACH  # where it is whole, all ways to read it take a while

    @settings(max_examples=tries, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs(sound))
    def read(content: bytes) -> None:
        nonlocal tried, refused
        tried += 1
        try:
            put_and_read(store, tmp_path, content)
        except DrIrlError as error:
            refused += 1
            assert str(error).strip() and "Traceback" not in str(error)
        except FileNotFoundError:
            refused += 1

    read()
    count("hostile records", inputs=tried, refused=refused, tracebacks=0)
