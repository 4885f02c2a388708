"""The weekly retraining: the same DAG, which computes only what new data changes."""

from typing import Any

from prefect import flow

from dr_irl.artifacts import ArtifactRef
from flows.pipeline import dr_irl_pipeline
from flows.record import RunRecord


@flow(name="retrain")
def retrain_pipeline(
    profile: str = "demo",
    overrides: dict[str, Any] | None = None,
    store: str = "store",
    output: str | None = None,
) -> RunRecord | dict[str, ArtifactRef]:
    """Train again on what the sources hold now; stages whose inputs did not change are found in the store.

    Args:
        profile: `smoke`, `demo`, `paper`, or the path of a YAML file.
        overrides: dotted setting name -> value; `sources.files` names the data.
        store: a folder or `s3://bucket/prefix` for artifacts.
        output: a folder that receives the adapter, the report and the run's record; none by default.
    """
    return dr_irl_pipeline(profile=profile, overrides=overrides, store=store, output=output)
