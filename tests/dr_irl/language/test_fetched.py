"""Models on S3: what is used is what lies there now, whole, and nothing that could run code; over HTTP."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import s3fs
from services import SECRETS, s3_client, s3_server

from dr_irl.artifacts.address import S3Address
from dr_irl.artifacts.backend import Stamp
from dr_irl.artifacts.remote import bring_object, bring_objects
from dr_irl.errors import ModelError, StoreError
from dr_irl.language import fetched
from dr_irl.language.resolve import download_tree, model_identity, resolve_model

Put = Callable[..., str]
CLIENTS: dict[str, s3fs.S3FileSystem] = {}
"""Those of this server: each takes half a second to make."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with the bucket `models`."""
    with s3_server("models") as address:
        yield address


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of the server, which this process uses too, with a cache of its own."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": SECRETS["S3_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": SECRETS["S3_SECRET_KEY"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "DR_IRL_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", CLIENTS)
    return s3_client(server)


@pytest.fixture
def put(client: Any, request: pytest.FixtureRequest) -> Put:
    """Puts files of a model under a prefix of the test's own, and returns its address."""

    def write(below: str = "model", **files: str) -> str:
        prefix = f"{request.node.name.replace('/', '-')}/{below}"
        for name, text in files.items():
            client.put_object(Bucket="models", Key=f"{prefix}/{name.replace('__', '.')}", Body=text.encode())
        return f"s3://models/{prefix}"

    return write


def test_weights_that_were_replaced_are_the_ones_that_are_used(put: Put) -> None:
    address = put(config__json="{}", model__safetensors="old")
    before, identity = resolve_model(address), model_identity(address)
    put(config__json="{}", model__safetensors="new")
    after = resolve_model(address)
    assert ((before / "model.safetensors").read_text(), (after / "model.safetensors").read_text()) == ("old", "new")
    assert model_identity(address) != identity


def test_the_same_bytes_elsewhere_are_the_same_model(put: Put) -> None:
    first, second = (put(below, config__json="{}", model__safetensors="w") for below in ("a", "b"))
    assert model_identity(first) == model_identity(second)


def test_two_addresses_never_share_a_folder(put: Put) -> None:
    first, second = (put(below, config__json="{}", model__safetensors=below) for below in ("a.b", "a-b"))
    assert [(resolve_model(a) / "model.safetensors").read_text() for a in (first, second)] == ["a.b", "a-b"]


def test_what_is_there_is_not_fetched_again(put: Put) -> None:
    address = put(config__json="{}")
    first = resolve_model(address)
    made = (first / "config.json").stat().st_mtime_ns
    assert (resolve_model(address), (first / "config.json").stat().st_mtime_ns) == (first, made)


@pytest.mark.parametrize("below", ["[1]", "*", "a b", "a?b{c}", "a::b", "%20+", "é"])
def test_no_character_of_a_prefix_is_a_pattern(below: str, put: Put) -> None:
    put("1", config__json="another")
    assert (resolve_model(put(below, config__json="{}")) / "config.json").read_text() == "{}"


def test_a_copy_that_was_damaged_here_is_fetched_again(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    address = put(config__json="{}", model__safetensors="weights")
    folder = resolve_model(address)
    (folder / "model.safetensors").write_text("wrights")
    monkeypatch.setattr(fetched, "_VERIFIED", set())  # as another process would find it
    assert (resolve_model(address) / "model.safetensors").read_text() == "weights"


def test_a_copy_that_was_cut_short_here_is_fetched_again(put: Put) -> None:
    address = put(config__json="{}", model__safetensors="weights")
    (resolve_model(address) / "model.safetensors").write_text("w")
    assert (resolve_model(address) / "model.safetensors").read_text() == "weights"


def test_what_can_run_code_is_not_fetched(put: Put) -> None:
    address = put(config__json="{}", model__safetensors="w", pytorch_model__bin="pickle", modeling__py="print()")
    assert sorted(path.name for path in resolve_model(address).iterdir()) == [
        ".fetched.json",
        "config.json",
        "model.safetensors",
    ]


def test_files_that_are_not_fetched_are_no_part_of_the_identity(put: Put) -> None:
    address = put(config__json="{}")
    before = model_identity(address)
    put(config__json="{}", modeling__py="print()")
    assert model_identity(address) == before


def test_a_model_in_pickles_alone_is_refused(put: Put) -> None:
    with pytest.raises(ModelError, match=r"none is fetched, for example 'pytorch_model.bin'; allowed are .json"):
        resolve_model(put(pytorch_model__bin="pickle"))


def test_a_prefix_with_nothing_under_it_is_told(put: Put) -> None:
    with pytest.raises(ModelError, match="there is nothing under that prefix"):
        model_identity(put("nothing"))


def test_a_prefix_without_a_configuration_is_told(put: Put) -> None:
    with pytest.raises(ModelError, match=r"there is no config.json under that prefix"):
        resolve_model(put(model__safetensors="w"))


def test_a_missing_bucket_is_told(client: Any) -> None:
    with pytest.raises(StoreError, match="cannot open the model 's3://nowhere/model': no such bucket; create it"):
        model_identity("s3://nowhere/model")


def test_a_name_that_would_lie_outside_the_folder_is_refused(put: Put, client: Any, tmp_path: Path) -> None:
    address = put(config__json="{}")
    client.put_object(Bucket="models", Key=f"{address.removeprefix('s3://models/')}/../../../evil.json", Body=b"{}")
    with pytest.raises(StoreError, match=r"has an object '../../../evil.json', which can be no file here; rename it"):
        download_tree(address, tmp_path / "tree")
    assert not list(tmp_path.rglob("evil.json"))


def test_an_object_that_is_another_than_was_looked_at_is_told(put: Put, tmp_path: Path) -> None:
    address = put(config__json="{}")
    place = S3Address("models", address.removeprefix("s3://models/"))
    with pytest.raises(StoreError, match="was replaced while it was read; run again"):
        bring_objects(place, {"config.json": Stamp(2, "another")}, tmp_path, "model")


def test_an_object_that_does_not_match_its_hash_is_told(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Address("models", put(config__json="{}").removeprefix("s3://models/"))
    stamp = fetched.stamps_of(place)["config.json"]
    from dr_irl.artifacts.s3 import S3Backend

    received = S3Backend.receive

    def altered(self: S3Backend, key: str, path: Path) -> Any:
        return received(self, key, path)._replace(md5="0" * 32)

    monkeypatch.setattr(S3Backend, "receive", altered)
    with pytest.raises(StoreError, match="is damaged where it lies: its contents do not match their ETag"):
        bring_objects(place, {"config.json": stamp}, tmp_path, "model")


def test_an_object_with_a_bracket_is_brought(put: Put, tmp_path: Path) -> None:
    place = S3Address("models", f"{put('[2]', config__json='{}').removeprefix('s3://models/')}/config.json")
    bring_object(place, tmp_path / "file", "file")
    assert (tmp_path / "file").read_text() == "{}"


FETCH = "import sys; from dr_irl.language.resolve import resolve_model; print(resolve_model(sys.argv[1]))"


def test_two_processes_that_fetch_at_once_get_one_whole_copy(put: Put, tmp_path: Path) -> None:
    address = put(config__json="{}", model__safetensors="w" * 10**6)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    both = [
        subprocess.Popen([sys.executable, "-c", FETCH, address], stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0].strip() for process in both)
    assert (first == second, (Path(first) / "model.safetensors").stat().st_size) == (True, 10**6)
    assert sorted(path.name for path in Path(first).parent.iterdir()) == [Path(first).name, f"{Path(first).name}.lock"]


def test_who_comes_second_waits(put: Put) -> None:
    address = put(config__json="{}")
    folder = resolve_model(address)
    second = Thread(target=resolve_model, args=[address])
    with fetched._alone_with(folder):
        second.start()
        second.join(0.3)
        assert second.is_alive()
    second.join(60)
    assert not second.is_alive()


def test_what_a_killed_process_left_is_cleared(put: Put) -> None:
    address = put(config__json="{}")
    folder = resolve_model(address)
    left = folder.with_name(f"{folder.name}-killed")
    left.mkdir()
    (folder / "config.json").unlink()
    assert ((resolve_model(address) / "config.json").exists(), left.exists()) == (True, False)
