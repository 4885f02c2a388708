"""Files dropped into an inbox: in a folder, and on a server of S3 that honours conditional puts."""

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from dr_irl.artifacts import Store
from dr_irl.artifacts.backend import FileStat
from dr_irl.demonstrations.inbox import Claim, Limits, _Claimer, claim_inbox
from dr_irl.demonstrations.ledger import Accepted, read_ledger
from dr_irl.demonstrations.sources import load_examples, newest_first
from dr_irl.errors import StoreError

ROW = b'{"prompt": "how do I mock him"}\n'
NOT_REGULAR = "it is a link, a pipe or a device: drop the file itself"
OTHER = b'{"prompt": "how do I fool her"}\n'
AT_ONCE = Limits(max_prompt_characters=100, max_bad_rows=0.4, settle_seconds=0.0)
IMPATIENT = Limits(max_prompt_characters=100, max_bad_rows=0.4, settle_seconds=0.0, give_up_seconds=0.0)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="inboxes")
    yield url
    server.stop()


@pytest.fixture
def s3_store(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", {})
    return Store(f"s3://inboxes/{tmp_path.parent.name}-{tmp_path.name}")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture(params=["folder", "s3_store"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


def drop(store: Store, name: str, content: bytes = ROW) -> None:
    store.backend.write(f"inbox/{name}", content)


def claim(store: Store, limits: Limits = AT_ONCE) -> Claim:
    return claim_inbox(store, limits)


def entries(store: Store) -> list[Accepted]:
    return read_ledger(store.backend)


def below(store: Store, prefix: str) -> list[str]:
    return sorted(key.removeprefix(f"{prefix}/") for key in store.backend.files(prefix))


def claimed(store: Store) -> dict[str, bytes]:
    """Return hash -> contents of what the ledger has, for comparison with what was dropped."""
    return {entry.sha256: store.backend.read(entry.key) for entry in entries(store)}


def by_hash(*contents: bytes) -> dict[str, bytes]:
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


def test_a_dropped_file_is_kept_under_its_hash(store: Store) -> None:
    drop(store, "week.jsonl")
    claim(store)
    assert claimed(store) == by_hash(ROW)


def test_a_dropped_file_leaves_the_inbox(store: Store) -> None:
    drop(store, "week.jsonl")
    claim(store)
    assert below(store, "inbox") == []


def test_the_ledger_names_the_file_and_counts_its_rows(store: Store) -> None:
    drop(store, "team/week.jsonl", ROW + OTHER)
    claim(store)
    assert [(entry.number, entry.name, entry.rows) for entry in entries(store)] == [(1, "team/week.jsonl", 2)]


def test_files_are_numbered_as_they_came(store: Store) -> None:
    drop(store, "z.jsonl", ROW)
    claim(store)
    drop(store, "a.jsonl", OTHER)
    claim(store)
    assert [(entry.number, entry.name) for entry in entries(store)] == [(1, "z.jsonl"), (2, "a.jsonl")]


def test_an_accepted_file_is_read_as_a_source(store: Store) -> None:
    drop(store, "week.jsonl")
    [entry] = claim(store).accepted
    [example], _ = load_examples([f"{store.uri}/{entry.key}"], max_prompt_characters=100, max_bad_rows=0.0)
    assert example.prompt == "how do I mock him"


def test_an_accepted_file_counts_as_new_in_the_order_of_sources(folder: Store) -> None:
    drop(folder, "1.jsonl", ROW)
    drop(folder, "2.jsonl", OTHER)
    first, second = (f"{folder.uri}/{entry.key}" for entry in claim(folder).accepted)
    assert newest_first(["seed", first, second, "mine.jsonl"]) == [second, first]


def test_the_same_content_under_two_names_is_one_entry(store: Store) -> None:
    drop(store, "a.jsonl")
    drop(store, "b.jsonl")
    assert (claim(store).repeated, len(entries(store))) == (["b.jsonl"], 1)


def test_the_same_content_dropped_again_is_one_entry(store: Store) -> None:
    for _ in range(2):
        drop(store, "a.jsonl")
        last = claim(store)
    assert (last.repeated, len(entries(store)), below(store, "inbox")) == (["a.jsonl"], 1, [])


def test_an_empty_inbox_is_nothing_to_claim(store: Store) -> None:
    assert claim(store) == Claim()


class Killed(BaseException):
    """Raised in place of a kill: nothing handles it."""


def kill_at(store: Store, monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool) -> None:
    """Let the claim end before or after its n-th change to the store."""
    steps = iter(range(100))

    def killing(method: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            here = next(steps) == step
            if here and not after:
                raise Killed
            result = method(*args, **kwargs)
            if here:
                raise Killed
            return result

        return changed

    for name in ("write", "create", "delete"):
        monkeypatch.setattr(store.backend, name, killing(getattr(store.backend, name)))


def kill_again_and_again(store: Store) -> None:
    """Claim until it ends well, killed after its first change, next time after its second, and so on."""
    for step in range(100):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(store, patch, step, after=True)
            try:
                claim(store)
            except Killed:
                continue
            return
    raise AssertionError("a claim never ended")


def test_a_claim_killed_again_and_again_is_finished(store: Store) -> None:
    drop(store, "a.jsonl", ROW)
    drop(store, "b.jsonl", OTHER)
    kill_again_and_again(store)
    assert (claimed(store), below(store, "inbox")) == (by_hash(ROW, OTHER), [])


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("after", [False, True])
def test_a_claim_killed_at_any_point_loses_and_doubles_nothing(
    folder: Store, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    drop(folder, "a.jsonl", ROW)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(folder, patch, step, after=after)
        claim(folder)
    kept = set(claimed(folder)) | {
        hashlib.sha256(folder.backend.read(f"inbox/{n}")).hexdigest() for n in below(folder, "inbox")
    }
    claim(folder)
    assert (kept, claimed(folder), below(folder, "inbox")) == (set(by_hash(ROW)), by_hash(ROW), [])


def test_an_entry_that_was_cut_off_is_written_again(folder: Store) -> None:
    # `create` makes a file and then fills it: a kill in between leaves it empty.
    [sha256] = by_hash(ROW)
    folder.backend.write(f"accepted/{sha256}.json", b"")
    drop(folder, "a.jsonl")
    claim(folder)
    assert [entry.sha256 for entry in entries(folder)] == [sha256]


def test_a_refusal_killed_again_and_again_is_finished(store: Store) -> None:
    drop(store, "a.jsonl", b'{"question": "x"}\n')
    kill_again_and_again(store)
    assert [name.partition("-")[2] for name in below(store, "inbox/refused")] == ["a.jsonl", "a.jsonl.reason.txt"]


def test_claimers_at_once_accept_every_file_once(store: Store) -> None:
    contents = [json.dumps({"prompt": f"prompt {number}"}).encode() + b"\n" for number in range(6)]
    for number, content in enumerate(contents):
        drop(store, f"{number}.jsonl", content)
    with ThreadPoolExecutor(3) as pool:
        claims = list(pool.map(lambda _: claim(Store(store.uri)), range(3)))
    accepted = [entry.sha256 for each in claims for entry in each.accepted]
    assert (sorted(accepted), claimed(store)) == (sorted(by_hash(*contents)), by_hash(*contents))


@given(moments=st.lists(st.integers(0, 12), min_size=1, max_size=3), same=st.booleans())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_claim_in_the_middle_of_another_changes_nothing(
    moments: list[int], same: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    contents = (ROW, ROW if same else OTHER)
    for name, content in zip("ab", contents, strict=True):
        drop(store, f"{name}.jsonl", content)
    calls = iter(range(1000))

    def interrupted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) in moments:
                claim(Store(store.uri))
            return method(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("files", "read", "read_many", "write", "create", "delete"):
            patch.setattr(store.backend, name, interrupted(getattr(store.backend, name)))
        claim(store)
    assert (claimed(store), below(store, "inbox")) == (by_hash(*contents), [])


def test_a_file_that_changed_a_moment_ago_is_left(folder: Store) -> None:
    drop(folder, "a.jsonl")
    left = claim(folder, Limits(100, 0.4)).left
    assert left["a.jsonl"].endswith("less than 30 s: somebody may be writing it") and entries(folder) == []


def test_an_object_is_whole_when_it_is_seen(s3_store: Store) -> None:
    drop(s3_store, "a.jsonl")
    assert len(claim(s3_store, Limits(100, 0.4)).accepted) == 1


@pytest.mark.parametrize("name", ["a.jsonl.part", "a.tmp", "a.CRDOWNLOAD"])
def test_a_name_of_something_unfinished_is_left(store: Store, name: str) -> None:
    drop(store, name)
    assert (list(claim(store).left), below(store, "inbox")) == ([name], [name])


@pytest.mark.parametrize("name", [".a.jsonl", ".hidden/a.jsonl"])
def test_hidden_files_are_not_looked_at(store: Store, name: str) -> None:
    drop(store, name)
    assert (claim(store), below(store, "inbox")) == (Claim(), [name])


UNFINISHED = pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", b"PAR1 and some rows", "it has no Parquet footer"),
        ("a.jsonl", ROW + b'{"prompt": "how do', "its last line is cut off"),
        ("a.csv", b"prompt,response\nmock him,I will not mo", "its last line has no end, so it may be cut off"),
        ("a.csv", b'prompt,response\nmock him,"I will not mo', "its last line has no end, so it may be cut off"),
        ("a.jsonl", b"", "it is empty"),
        ("a.jsonl.gz", gzip.compress(ROW * 9)[:-9], "it cannot be unpacked, so it may be cut off"),
        ("a.csv.gz", gzip.compress(b"prompt\nmock hi"), "its last line has no end, so it may be cut off"),
    ],
)


@UNFINISHED
def test_a_file_that_ends_in_the_middle_is_left(folder: Store, name: str, content: bytes, reason: str) -> None:
    drop(folder, name, content)
    assert claim(folder).left == {name: f"{reason}: somebody may be writing it"}


@UNFINISHED
def test_a_file_that_never_goes_on_is_refused(folder: Store, name: str, content: bytes, reason: str) -> None:
    drop(folder, name, content)
    assert reason in claim(folder, IMPATIENT).refused[name]


def test_a_last_line_without_its_newline_is_whole(folder: Store) -> None:
    drop(folder, "a.jsonl", ROW.rstrip())
    assert len(claim(folder).accepted) == 1


def test_a_packed_file_is_accepted_and_read_from_where_it_is_kept(folder: Store) -> None:
    drop(folder, "week.jsonl.gz", gzip.compress(ROW + OTHER))
    [entry] = claim(folder).accepted
    location = f"{folder.uri}/{entry.key}"
    assert (entry.rows, newest_first([location])) == (2, [location])
    assert len(load_examples([location], max_prompt_characters=100, max_bad_rows=0.0)[0]) == 2


def test_a_pipe_is_never_waited_for(folder: Store) -> None:
    Path(folder.uri, "inbox").mkdir()
    os.mkfifo(Path(folder.uri, "inbox", "a.jsonl"))
    assert claim(folder, IMPATIENT).left == {"a.jsonl": NOT_REGULAR}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Rows outside the store, which whoever drops files may not read."""
    (path := tmp_path / "secret" / "rows.jsonl").parent.mkdir()
    path.write_bytes(ROW)
    path.chmod(0o600)
    return path


def test_a_link_is_left_and_never_followed(folder: Store, secret: Path) -> None:
    drop(folder, "b.jsonl", OTHER)
    inbox = Path(folder.uri, "inbox")
    (inbox / "a.jsonl").symlink_to(secret)
    (inbox / "dangling.jsonl").symlink_to(inbox / "none")
    (inbox / "below").symlink_to(secret.parent)
    found = claim(folder)
    assert found.left == {"a.jsonl": NOT_REGULAR, "dangling.jsonl": NOT_REGULAR}
    assert ([entry.name for entry in found.accepted], secret.read_bytes()) == (["b.jsonl"], ROW)


@pytest.mark.parametrize("made_a_link", ["file", "folder"])
def test_what_becomes_a_link_after_it_was_listed_is_left(folder: Store, secret: Path, made_a_link: str) -> None:
    drop(folder, "week/rows.jsonl", OTHER)
    stat = folder.backend.files("inbox")["inbox/week/rows.jsonl"]
    week = Path(folder.uri, "inbox", "week")
    (week / "rows.jsonl").unlink()
    if made_a_link == "file":
        (week / "rows.jsonl").symlink_to(secret)
    else:
        week.rmdir()
        week.symlink_to(secret.parent)
    claimer = _Claimer(folder, AT_ONCE)
    claimer.take("inbox/week/rows.jsonl", stat)
    assert (list(claimer.claim.left), entries(folder)) == (["week/rows.jsonl"], [])


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_what_lies_in_the_place_of_refused_files_stops_nothing(folder: Store, secret: Path, kind: str) -> None:
    drop(folder, "a.jsonl", ROW)
    drop(folder, "bad.jsonl", b'{"response": "no prompt"}\n')
    place = Path(folder.uri, "inbox", "refused")
    if kind == "link":
        place.symlink_to(secret.parent)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.write_bytes(b"?")
    found = claim(folder)
    assert ([entry.name for entry in found.accepted], "bad.jsonl" in found.refused) == (["a.jsonl"], True)
    assert (place.is_dir(), place.is_symlink()) == (True, False)
    assert [path.name for path in secret.parent.iterdir()] == ["rows.jsonl"]


def test_a_file_too_large_for_memory_is_left_unread(folder: Store) -> None:
    drop(folder, "a.jsonl")
    with Path(folder.uri, "inbox", "a.jsonl").open("r+b") as stream:
        stream.truncate(1 << 40)
    assert claim(folder, AT_ONCE).left == {"a.jsonl": "it is larger than 1 GiB: split it"}


def test_a_file_that_grows_while_it_is_claimed_stays(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(folder, "a.jsonl", ROW)
    enter = folder.backend.create

    def and_grow(key: str, content: bytes, **options: Any) -> bool:
        with Path(folder.uri, "inbox", "a.jsonl").open("ab") as stream:
            stream.write(OTHER)
        return enter(key, content, **options)

    monkeypatch.setattr(folder.backend, "create", and_grow)
    claim(folder)
    assert folder.backend.read("inbox/a.jsonl") == ROW + OTHER


def test_what_was_read_in_part_is_left(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(folder, "a.jsonl", ROW + OTHER)
    monkeypatch.setattr(folder.backend, "read_foreign", lambda key: ROW)
    assert claim(folder).left == {"a.jsonl": "it changed while it was read"}


BAD = pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b'{"question": "WICKED"}\n', "has no column 'prompt'; its columns are 'question'"),
        ("a.csv", b"how to be WICKED\nWICKED words\n", "has no column 'prompt'"),
        ("a.csv", b"prompt\nWICKED,WICKED\n", "row 1: more or fewer fields than the header"),
        ("a.jsonl", b'{"prompt": 1}\n{"prompt": "WICKED"}\n', "1 of 2 rows (50.0%) are unusable"),
        ("a.parquet", b"WICKED PAR1", "cannot be read as parquet"),
        ("notes.txt", b"WICKED", "its suffix is '.txt'"),
    ],
)


@BAD
def test_a_file_that_cannot_be_used_is_put_aside(store: Store, name: str, content: bytes, reason: str) -> None:
    drop(store, name, content)
    assert (reason in claim(store).refused[name], entries(store)) == (True, [])
    [kept, _] = below(store, "inbox/refused")
    assert (kept.endswith(f"-{name}"), store.backend.read(f"inbox/refused/{kept}")) == (True, content)


@BAD
def test_why_a_file_was_refused_says_nothing_of_its_rows(folder: Store, name: str, content: bytes, reason: str) -> None:
    drop(folder, name, content)
    claim(folder)
    [_, said] = below(folder, "inbox/refused")
    text = folder.backend.read(f"inbox/refused/{said}").decode()
    assert (reason in text, "WICKED" in text) == (True, False)


def test_a_refused_file_does_not_block_the_others(store: Store) -> None:
    drop(store, "a.jsonl", b"nonsense\n")
    drop(store, "b.jsonl", ROW)
    assert [entry.name for entry in claim(store, IMPATIENT).accepted] == ["b.jsonl"]


def test_what_was_refused_is_not_looked_at_again(store: Store) -> None:
    drop(store, "a.txt")
    claim(store)
    assert claim(store) == Claim()


def test_a_file_that_cannot_be_read_does_not_block_the_others(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(folder, "a.jsonl", OTHER)
    drop(folder, "b.jsonl", ROW)
    read = folder.backend.read_foreign

    def denied(key: str) -> bytes:
        if key == "inbox/a.jsonl":
            raise StoreError("access is denied")
        return read(key)

    monkeypatch.setattr(folder.backend, "read_foreign", denied)
    assert ([entry.name for entry in claim(folder).accepted], below(folder, "inbox")) == (["b.jsonl"], ["a.jsonl"])


def test_what_was_accepted_once_is_not_judged_again(folder: Store) -> None:
    for limits in (AT_ONCE, Limits(max_prompt_characters=1, max_bad_rows=0.0, settle_seconds=0.0)):
        drop(folder, "a.jsonl")
        last = claim(folder, limits)
    assert (last.repeated, last.refused) == (["a.jsonl"], {})


HOSTILE = ["..jsonl", "a b;rm -rf ~.jsonl", "new\nline.jsonl", "\u202efdp.jsonl", "$(id).jsonl", "x" * 200 + ".jsonl"]


@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.startswith(".")])
def test_a_hostile_name_is_a_name(folder: Store, name: str) -> None:
    drop(folder, name)
    [entry] = claim(folder).accepted
    assert (entry.name, below(folder, "inbox")) == (name, [])


@pytest.mark.parametrize("name", HOSTILE[1:])
def test_a_refused_file_of_a_hostile_name_lies_under_a_plain_one(folder: Store, name: str) -> None:
    drop(folder, name, b'{"question": "x"}\n')
    claim(folder)
    kept = below(folder, "inbox/refused")[0]
    assert kept.replace("-", "").replace(".", "").replace("_", "").isalnum() and kept.isascii() and len(kept) < 100


def test_a_name_that_is_no_text_is_a_name(folder: Store) -> None:
    Path(folder.uri, "inbox").mkdir()
    Path(os.fsdecode(os.fsencode(folder.uri) + b"/inbox/caf\xe9.jsonl")).write_bytes(ROW)
    claim(folder)
    assert [entry.name for entry in entries(folder)] == [r"caf\udce9.jsonl"]


def test_a_name_that_climbs_out_of_the_inbox_is_left(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # An object may be called so; a file may not.
    monkeypatch.setattr(
        folder.backend, "files", lambda prefix: {"inbox/../x.jsonl": FileStat(9, 0.0)} if prefix == "inbox" else {}
    )
    assert list(claim(folder).left) == ["../x.jsonl"]


def test_a_parquet_file_is_accepted(folder: Store, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a", "b"]}), tmp_path / "f.parquet")
    drop(folder, "F.PARQUET", (tmp_path / "f.parquet").read_bytes())
    assert [(entry.rows, entry.suffix) for entry in claim(folder).accepted] == [(2, ".parquet")]


def test_a_clock_that_was_set_back_does_not_change_the_order(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(folder, "z.jsonl", ROW)
    claim(folder)
    drop(folder, "a.jsonl", OTHER)
    monkeypatch.setattr("time.time", lambda: 0.0)
    claim(folder)
    assert [entry.name for entry in entries(folder)] == ["z.jsonl", "a.jsonl"]


def test_an_entry_that_is_damaged_is_told(folder: Store, caplog: pytest.LogCaptureFixture) -> None:
    folder.backend.write("accepted/abc.json", b"{")
    assert entries(folder) == [] and "accepted/abc.json is no entry of a ledger" in caplog.text
