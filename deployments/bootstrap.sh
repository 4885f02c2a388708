#!/usr/bin/env bash
# Prepare a Prefect server for DR-IRL: work pool, concurrency limit, automations, deployments. Safe to run again.
#
#   export PREFECT_API_URL=http://127.0.0.1:4200/api       # the server: `prefect server start`
#   export PREFECT_API_AUTH_STRING=user:password           # if it asks for one, as it should
#   export DR_IRL_STORE=s3://bucket/prefix                 # or a folder; `store` in this checkout by default
#   deployments/bootstrap.sh                               # or with `docker` or `kubernetes`: where runs are started
#
# Optional: DR_IRL_GRPO_AT_ONCE (GRPO loops at once, over all machines; 1); of the pool's runs DR_IRL_IMAGE and what else the
# "operator" part of deployments/work-pools/*.json describes, such as DR_IRL_CREDENTIALS_FILE and DR_IRL_SECRET;
# of the scheduled retraining: DR_IRL_SCHEDULE (cron; "0 3 * * 1"), DR_IRL_TIMEZONE (Etc/UTC), DR_IRL_PROFILE (laptop) and
# DR_IRL_PROMOTE (safe; the name under which a result that passes the gate is published).
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
DR_IRL_SCHEDULE=${DR_IRL_SCHEDULE:-0 3 * * 1}
DR_IRL_PROFILE=${DR_IRL_PROFILE:-laptop}
DR_IRL_PROMOTE=${DR_IRL_PROMOTE:-safe}
DR_IRL_VERSION=$(python -c 'from importlib.metadata import version; print(version("dr-irl"))')
DR_IRL_SCHEDULE_ACTIVE=$(python "$root/deployments/prepare_server.py" schedule)
export DR_IRL_SCHEDULE_ACTIVE DR_IRL_POOL DR_IRL_STORE DR_IRL_TIMEZONE DR_IRL_SCHEDULE DR_IRL_PROFILE DR_IRL_PROMOTE DR_IRL_VERSION

# A profile of this package, or a YAML file that every worker has; a wrong one is told here and not next Monday.
dr-irl run --profile "$DR_IRL_PROFILE" --dry-run > /dev/null

# Prefect says a hundred lines of it, and suggests to start runs without a profile; they are shown if it fails.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
if ! prefect --no-prompt deploy --all --prefect-file "$root/deployments/prefect.yaml" > "$said" 2>&1; then
    cat "$said" >&2
    exit 1
fi

starts="starts by itself at \"$DR_IRL_SCHEDULE\" ($DR_IRL_TIMEZONE)"
[ "$DR_IRL_SCHEDULE_ACTIVE" = true ] || starts="is paused, as it was before"
cat << END
Deployed train, retrain, evaluate and ablate, version $DR_IRL_VERSION, on store $DR_IRL_STORE.
Retraining $starts: profile $DR_IRL_PROFILE, published as "$DR_IRL_PROMOTE" if it passes the gate.
Next, in an environment that has dr-irl installed:
  dr-irl worker --pool $DR_IRL_POOL              # starts the runs; leave it running
  dr-irl doctor --pool $DR_IRL_POOL              # is everything there?
  prefect deployment run train/train --param profile='"smoke"' --watch
END
