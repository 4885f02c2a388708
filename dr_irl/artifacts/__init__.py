"""Content-addressed artifacts in a folder or under an `s3://` prefix."""

from dr_irl.artifacts.fingerprint import fingerprint_of
from dr_irl.artifacts.manifest import ArtifactRef, FileEntry, Manifest
from dr_irl.artifacts.store import Store

__all__ = ["ArtifactRef", "FileEntry", "Manifest", "Store", "fingerprint_of"]
