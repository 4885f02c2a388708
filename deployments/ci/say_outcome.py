"""Says how a flow run ended, and where its page and its report are: `python say_outcome.py ID`."""

import os
import re
import sys
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.utilities.urls import url_for


def main() -> None:
    """Print the lines, and repeat them in the summary of a GitHub Actions job."""
    lines = outcome(UUID(sys.argv[1]))
    print("\n".join(lines))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.writelines(f"- {line}\n" for line in lines)


def outcome(run_id: UUID) -> list[str]:
    """Return a line each for state, page and report."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), key=ArtifactFilterKey(any_=["report"])
            ),
            sort=ArtifactSort.UPDATED_DESC,
            limit=1,
        )
    state = ": ".join(part for part in (run.state.name, run.state.message) if part) if run.state else "unknown"
    # The page begins with the address in the store, as the text of a link or, where a browser cannot open it, as code.
    address = re.match(r"\[(.+)\]\(|`(.+)`", str(found[0].data)) if found else None
    report = address[1] or address[2] if address else "none; the run ended before it was written"
    return [f"state:  {state}", f"run:    {url_for(run)}", f"report: {report}"]


if __name__ == "__main__":
    main()
