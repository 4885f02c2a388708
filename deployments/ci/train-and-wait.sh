#!/usr/bin/env bash
# Start a deployment's run, wait for its end, say what came of it. For CI, and for a shell:
#
#   export PREFECT_API_URL=http://127.0.0.1:4200/api
#   deployments/ci/train-and-wait.sh train/train --param profile='"demo"' --param promote='"safe"'
#
# All arguments go to `prefect deployment run`. Exit status: 0 if the run completed, 1 if it failed (so does a result that
# may not replace the champion), crashed or was cancelled, or could not be started. Ending this script does not end the run.
set -euo pipefail

: "${PREFECT_API_URL:?set it to the address of the Prefect server, for example http://127.0.0.1:4200/api}"

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
said=$(mktemp)
trap 'rm -f "$said"' EXIT

status=0
prefect --no-prompt deployment run "$@" --watch 2>&1 | tee "$said" || status=$?

run=$(sed -nE 's/.*UUID: ([0-9a-f-]{36}).*/\1/p' "$said" | head -n 1)
if [ -n "$run" ]; then
    python "$folder/say_outcome.py" "$run"
fi
exit "$status"
