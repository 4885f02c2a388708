"""Where Prefect keeps the results of tasks: which artifact each one made, as plain JSON in the store itself.

They save a look-up and show as `Cached` in the UI. The store stays the truth: a result whose artifact is gone or is to
be built anew is dropped before Prefect can find it.
"""

import hashlib
from pathlib import Path

from prefect.filesystems import RemoteFileSystem
from prefect.serializers import JSONSerializer

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.keys import RESULTS
from dr_irl.artifacts.s3_options import RUNNING_ATTEMPTS, s3_options

# Plain JSON, both ways: Prefect's own encoding names classes, and reading it back imports and calls whatever it names.
SERIALISER = JSONSerializer(object_encoder=None, object_decoder=None)


def result_key(ref: ArtifactRef) -> str:
    """Return the key of the result that names an artifact: Prefect's cache key."""
    return f"{ref.stage}/{ref.fingerprint}"


def drop_result(store: Store, ref: ArtifactRef) -> None:
    """Make Prefect forget a result; it is fine if there is none."""
    store.backend.delete([f"{RESULTS}/{result_key(ref)}"])


def result_storage(store: Store) -> Path | RemoteFileSystem:
    """Return the place for results, as Prefect's `result_storage` takes it; credentials stay in the environment."""
    if store.is_local:
        return Path(store.uri, RESULTS)
    uri = f"{store.uri}/{RESULTS}"
    block = RemoteFileSystem(basepath=uri, settings=s3_options(RUNNING_ATTEMPTS))
    block.save(f"dr-irl-{hashlib.sha256(uri.encode()).hexdigest()[:12]}", overwrite=True)
    return block
