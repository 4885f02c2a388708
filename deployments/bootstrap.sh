#!/usr/bin/env bash
# Prepare a Prefect server for DR-IRL: work pool, concurrency limit, automations, deployments. Safe to run again.
#
#   export PREFECT_API_URL=http://127.0.0.1:4200/api       # the server: `prefect server start`
#   export DR_IRL_STORE=s3://bucket/prefix                 # or a folder; `store` in this checkout by default
#   deployments/bootstrap.sh                               # or with `docker` or `kubernetes`: where runs are started
#
# Optional: DR_IRL_IMAGE (image of the pool's runs), DR_IRL_GRPO_AT_ONCE (GRPO loops at once, over all machines; 1),
# DR_IRL_TIMEZONE (of the weekly schedule; Etc/UTC).
#
# Then start a worker, from any folder, in an environment that has dr-irl installed:
#
#   python -m flows.worker --pool dr-irl --type process
#
# see that all is well with `dr-irl doctor`, and start a run:
#
#   prefect deployment run train/train --param profile='"smoke"' --watch
set -euo pipefail

: "${PREFECT_API_URL:?set it to the address of the Prefect server, for example http://127.0.0.1:4200/api}"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kind=${1:-process}
case $kind in
    process) DR_IRL_POOL=dr-irl ;;
    docker | kubernetes) DR_IRL_POOL=dr-irl-$kind ;;
    *)
        echo "runs can be started as 'process', 'docker' or 'kubernetes', not as '$kind'" >&2
        exit 2
        ;;
esac

DR_IRL_STORE=${DR_IRL_STORE:-$root/store}
case $kind,$DR_IRL_STORE in
    *,s3://* | process,/*) ;;
    process,*)
        echo "DR_IRL_STORE is '$DR_IRL_STORE'; give an absolute folder or s3://bucket/prefix, which every worker can reach" >&2
        exit 2
        ;;
    *)
        echo "DR_IRL_STORE is '$DR_IRL_STORE'; a $kind run sees no folder of this machine, so give s3://bucket/prefix" >&2
        exit 2
        ;;
esac

case ${DR_IRL_GRPO_AT_ONCE:-1} in
    *[!0-9]* | 0*)
        echo "DR_IRL_GRPO_AT_ONCE is '$DR_IRL_GRPO_AT_ONCE'; give the number of GRPO loops at once, 1 or more" >&2
        exit 2
        ;;
esac

python "$root/deployments/prepare_server.py" "$kind"

DR_IRL_TIMEZONE=${DR_IRL_TIMEZONE:-Etc/UTC}
DR_IRL_VERSION=$(python -c 'from importlib.metadata import version; print(version("dr-irl"))')
export DR_IRL_POOL DR_IRL_STORE DR_IRL_TIMEZONE DR_IRL_VERSION
prefect --no-prompt deploy --all --prefect-file "$root/deployments/prefect.yaml"
