"""Brings a Prefect server to the state that the files of this folder describe; what is right already stays.

Called by bootstrap.sh, before it deploys: `python prepare_server.py process|docker|kubernetes`. With `schedule` it only
says whether the retraining's schedule is active: deploying would resume one that somebody paused.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import NotSet, apply_values

FOLDER = Path(__file__).parent
GRPO_LIMIT = "dr-irl-grpo"
_SECONDS_TO_START = 60.0


def main() -> None:
    """Prepare the server that PREFECT_API_URL names."""
    kind = sys.argv[1]
    with get_client(sync_client=True) as client:
        wait_for_server(client)
        if kind == "schedule":
            print(str(schedule_is_active(client)).lower())
            return
        install_pool(client, "dr-irl" if kind == "process" else f"dr-irl-{kind}", kind)
        install_limit(client, os.environ.get("DR_IRL_GRPO_AT_ONCE"))
        for automation in yaml.safe_load((FOLDER / "automations.yaml").read_text()):
            install_automation(client, AutomationCore.model_validate(automation))


def wait_for_server(client: SyncPrefectClient) -> None:
    """Wait for a server that was started a moment ago; one that does not answer ends this with a sentence."""
    deadline = time.monotonic() + _SECONDS_TO_START
    while (error := client.api_healthcheck()) is not None:
        if time.monotonic() > deadline:
            sys.exit(
                f"no Prefect server answers at {client.api_url} ({error}); start one with: prefect server start, "
                "or set PREFECT_API_URL to the address of yours"
            )
        time.sleep(1)


def schedule_is_active(client: SyncPrefectClient) -> bool:
    """Tell whether the retraining starts by itself; before it was deployed, it is about to."""
    try:
        found = client.read_deployment_by_name("retrain/retrain")
    except ObjectNotFound:
        return True
    return not found.schedules or any(schedule.active for schedule in found.schedules)


def install_pool(client: SyncPrefectClient, name: str, kind: str) -> None:
    """Create a work pool or renew its template; a pause and a limit that somebody set stay."""
    template = read_template(kind, os.environ)
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        print(f"Created work pool {name}")
    else:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
        print(f"Updated work pool {name}")


def read_template(kind: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read a pool's job template.

    What its `operator` part describes is settled here, by DR_IRL_IMAGE for `image` and so on, and by no caller of a
    deployment: who may start a run may not choose what code it is, nor which files and secrets it sees.
    """
    template = json.loads((FOLDER / "work-pools" / f"{kind}.json").read_text())
    settled = {
        name: _settled(name, about, environment.get(f"DR_IRL_{name.upper()}"))
        for name, about in template.pop("operator", {}).items()
    }
    kept = {variable: f"{{{{ {variable} }}}}" for variable in template["variables"]["properties"]}
    return template | {"job_configuration": apply_values(template["job_configuration"], kept | settled)}


def _settled(name: str, about: Mapping[str, Any], given: str | None) -> Any:
    """Return what a part of a job is: as given, or by default; nothing where there is neither."""
    if not given:
        return about.get("default", NotSet)
    if "type" not in about:
        return given
    try:
        return json.loads(given)
    except ValueError:
        sys.exit(f"DR_IRL_{name.upper()} is {given!r}, which is no JSON; allowed is {about['description']}")


def install_limit(client: SyncPrefectClient, slots: str | None) -> None:
    """Create the limit of GRPO loops at once; one that exists keeps its slots unless their number is given."""
    try:
        client.read_global_concurrency_limit_by_name(GRPO_LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GRPO_LIMIT, limit=int(slots or 1)))
        print(f"Created concurrency limit {GRPO_LIMIT}")
    else:
        if slots:
            client.update_global_concurrency_limit(GRPO_LIMIT, GlobalConcurrencyLimitUpdate(limit=int(slots)))
            print(f"Updated concurrency limit {GRPO_LIMIT}")


def install_automation(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation or replace the one of its name."""
    found = client.read_automations_by_name(automation.name)
    if not found:
        client.create_automation(automation)
        print(f"Created automation {automation.name}")
        return
    [existing] = found
    client.update_automation(existing.id, automation)
    print(f"Updated automation {automation.name}")


if __name__ == "__main__":
    main()
