"""How an artifact comes to lie on S3, where nothing can be renamed: its manifest is written last."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dr_irl.artifacts.backend import ObjectBackend
from dr_irl.artifacts.keys import MANIFEST_NAME
from dr_irl.artifacts.manifest import parse_manifest
from dr_irl.artifacts.retry import ATTEMPTS
from dr_irl.errors import StoreError

logger = logging.getLogger(__name__)

_UPLOADS_AT_ONCE = 4


def publish_objects(backend: ObjectBackend, staged: Path, prefix: str, manifest: bytes, *, replace: bool) -> None:
    """Upload a folder's files below `prefix`, then its manifest.

    A manifest that is there first is kept. The one exception: another builder committed while we uploaded, and made
    other bytes than we did. Some of its files may now be ours, so ours are written again, all of them: whoever
    finishes last leaves a whole artifact.

    Raises:
        StoreError: it cannot be written, or what arrived is not what was sent.
    """
    marker = f"{prefix}/{MANIFEST_NAME}"
    if not replace and backend.read_many([marker]):
        logger.info("%s/%s was committed by another run meanwhile; keeping that one", backend.uri, prefix)
        return
    if replace:
        # Without its manifest an artifact is absent, not damaged, to whoever reads while its files are replaced.
        backend.delete([marker])
    backend.delete(key for key in backend.files(prefix) if key != marker)
    _upload(backend, staged, prefix)
    if replace:
        backend.write(marker, manifest)
    elif not backend.create(marker, manifest):
        _settle(backend, staged, prefix, manifest)


def _settle(backend: ObjectBackend, staged: Path, prefix: str, manifest: bytes) -> None:
    marker = f"{prefix}/{MANIFEST_NAME}"
    other = backend.read_many([marker]).get(marker)
    uri = f"{backend.uri}/{prefix}"
    if other is not None and parse_manifest(other, uri).files == parse_manifest(manifest, uri).files:
        logger.info("%s was committed by another run meanwhile, the same bytes; keeping that one", uri)
        return
    logger.info("%s was committed by another run meanwhile, with other bytes; replacing it whole", uri)
    backend.delete([marker])
    _upload(backend, staged, prefix)
    backend.write(marker, manifest)


def _upload(backend: ObjectBackend, staged: Path, prefix: str) -> None:
    sizes = {path.relative_to(staged).as_posix(): path.stat().st_size for path in staged.rglob("*") if path.is_file()}

    def arrives(name: str) -> bool:
        # Asked of each file while others are under way: a server may hash what it lists, and would be waited for.
        backend.upload(staged / name, f"{prefix}/{name}")
        return backend.size(f"{prefix}/{name}") == sizes[name]

    missing = sorted(sizes, key=lambda name: (-sizes[name], name))  # the largest first: nothing waits for it at the end
    for _ in range(ATTEMPTS):
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            arrived = list(pool.map(arrives, missing))
        missing = [name for name, whole in zip(missing, arrived, strict=True) if not whole]
        if not missing:
            return
        logger.warning("uploading again what did not arrive whole: %s", ", ".join(sorted(missing)))
    raise StoreError(
        f"cannot write the store {backend.uri!r}: after {ATTEMPTS} uploads the server does not hold "
        f"{', '.join(sorted(missing))} at full size; check the server and any proxy on the way, then run again"
    )
