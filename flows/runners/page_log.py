"""What every Dask worker does first, and all that it has to import for that.

It does so in the thread that answers others: loading the libraries of the stages there, workers that start side by side
on a busy machine stay silent for long.
"""

import distributed

from tasks.orchestration.logs import log_at_info


class PageLog(distributed.WorkerPlugin):
    """Lets a worker log what belongs on the page of a run."""

    name = "dr-irl-page-log"

    def setup(self, worker: distributed.Worker) -> None:
        """Turn the log on; called once per worker."""
        del worker
        log_at_info()
