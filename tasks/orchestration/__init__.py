"""The Prefect side of a stage: cached, retried, limited, stopped, and shown on the page of its run."""
