"""The state of an artifact that is half built."""

import pytest

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.errors import StoreError


@pytest.fixture
def unbuilt(store: Store) -> ArtifactRef:
    return store.ref("alignment", "f00d")


def test_there_is_none_at_first(store: Store, unbuilt: ArtifactRef) -> None:
    assert store.checkpoint(unbuilt).read() is None


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n" * 1000])
def test_it_is_read_as_it_was_written(store: Store, unbuilt: ArtifactRef, content: bytes) -> None:
    store.checkpoint(unbuilt).write(content)
    assert Store(store.uri).checkpoint(unbuilt).read() == content


def test_the_last_one_counts(store: Store, unbuilt: ArtifactRef) -> None:
    for content in (b"first", b"second"):
        store.checkpoint(unbuilt).write(content)
    assert store.checkpoint(unbuilt).read() == b"second"


@pytest.mark.parametrize("damage", [b"", b"f" * 70, b"half of it"])
def test_a_damaged_one_is_none(store: Store, unbuilt: ArtifactRef, damage: bytes) -> None:
    store.checkpoint(unbuilt).write(b"state")
    store.backend.write("checkpoints/alignment/f00d", damage)
    assert store.checkpoint(unbuilt).read() is None


def test_a_damaged_one_is_logged(store: Store, unbuilt: ArtifactRef, caplog: pytest.LogCaptureFixture) -> None:
    store.backend.write("checkpoints/alignment/f00d", b"")
    store.checkpoint(unbuilt).read()
    assert "checkpoints/alignment/f00d is damaged" in caplog.text


def test_a_deleted_one_is_gone(store: Store, unbuilt: ArtifactRef) -> None:
    store.checkpoint(unbuilt).write(b"state")
    store.checkpoint(unbuilt).delete()
    assert store.checkpoint(unbuilt).read() is None


def test_deleting_none_is_fine(store: Store, unbuilt: ArtifactRef) -> None:
    store.checkpoint(unbuilt).delete()


def test_it_is_no_artifact(store: Store, unbuilt: ArtifactRef) -> None:
    store.checkpoint(unbuilt).write(b"state")
    assert not store.has(unbuilt) and store.refs() == []


def test_it_cannot_lie_outside_the_store(store: Store) -> None:
    with pytest.raises(StoreError, match="is no key of the store"):
        store.checkpoint(ArtifactRef(stage="../alignment", fingerprint="f", uri=""))


def test_parts_are_checkpoints_of_their_own(store: Store, unbuilt: ArtifactRef) -> None:
    whole = store.checkpoint(unbuilt)
    whole.part("insult").write(b"one")
    whole.part("privacy").write(b"two")
    again = store.checkpoint(unbuilt)
    assert (again.read(), again.part("insult").read(), again.part("privacy").read()) == (None, b"one", b"two")


def test_what_training_failed_on_is_kept_where_the_uri_says(store: Store, unbuilt: ArtifactRef) -> None:
    uri = store.checkpoint(unbuilt).write_failure('{"step": 3}')
    assert uri.startswith(store.uri)
    assert store.backend.read(uri.removeprefix(f"{store.uri}/")) == b'{"step": 3}'


def test_deleted_checkpoint_leaves_nothing_beside_it(store: Store, unbuilt: ArtifactRef) -> None:
    whole = store.checkpoint(unbuilt)
    whole.write(b"whole")
    whole.write_failure("{}")
    whole.part("insult").write(b"part")
    whole.delete()
    assert store.list_keys("checkpoints") == []
