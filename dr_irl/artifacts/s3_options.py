"""How S3 is asked: patiently, past proxies where it is this machine, and with what the environment says."""

from typing import Any

from dr_irl.artifacts.address import is_loopback, s3_endpoint

# A wrong endpoint is told within seconds; a run under way sits out an outage of about half a minute.
OPENING_ATTEMPTS = 2
RUNNING_ATTEMPTS = 7


def s3_options(attempts: int) -> dict[str, Any]:
    """Return how to open s3fs; credentials and the endpoint come from the environment.

    Raises:
        StoreError: the environment names an endpoint that is none.
    """
    endpoint = s3_endpoint()
    # A server on this machine is never asked by way of a proxy, whatever no_proxy says.
    direct = {"proxies": {}} if endpoint and is_loopback(endpoint.hostname) else {}
    return {
        "use_listings_cache": False,  # other processes write to the store too
        "config_kwargs": {
            # Some S3 servers answer ranged reads with the checksum of the whole object; ask only where required.
            "response_checksum_validation": "when_required",
            "request_checksum_calculation": "when_required",
            "retries": {"total_max_attempts": attempts, "mode": "standard"},
            **direct,
        },
    }
