#!/usr/bin/env bash
# Prepare a Prefect server for DR-IRL: work pool, concurrency limit, deployments. Safe to run again.
#
#   export PREFECT_API_URL=http://127.0.0.1:4200/api       # the server: `prefect server start`
#   export DR_IRL_STORE=s3://bucket/prefix                 # or a folder; `store` in this checkout by default
#   deployments/bootstrap.sh
#
# Then start a worker, from any folder, in an environment that has dr-irl installed:
#
#   prefect worker start --pool dr-irl --type process
#
# and a run:
#
#   prefect deployment run train/train --param profile='"smoke"' --watch
set -euo pipefail

: "${PREFECT_API_URL:?set it to the address of the Prefect server, for example http://127.0.0.1:4200/api}"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

DR_IRL_STORE=${DR_IRL_STORE:-$root/store}
case $DR_IRL_STORE in
    s3://* | /*) ;;
    *)
        echo "DR_IRL_STORE is '$DR_IRL_STORE'; give an absolute folder or s3://bucket/prefix, which every worker can reach" >&2
        exit 2
        ;;
esac
export DR_IRL_STORE

prefect work-pool inspect dr-irl >/dev/null 2>&1 || prefect work-pool create dr-irl --type process

# Threads and processes of one machine share its accelerator: one GRPO loop at a time.
prefect global-concurrency-limit inspect dr-irl-grpo >/dev/null 2>&1 ||
    prefect global-concurrency-limit create dr-irl-grpo --limit 1

prefect --no-prompt deploy --all --prefect-file "$root/deployments/prefect.yaml"
