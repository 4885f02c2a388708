"""Thin Prefect tasks: cache, retry, concurrency, progress. No method lives here."""
