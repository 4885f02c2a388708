#!/usr/bin/env bash
# Start a deployment's run, follow it to its end, say what came of it. For CI, and for a shell:
#
#   export PREFECT_API_URL=http://127.0.0.1:4200/api
#   deployments/ci/train-and-wait.sh train/train --param profile='"laptop"' --param promote='"safe"'
#
# All arguments go to `prefect deployment run`. Exit status: 0 if the run completed; 3 if the gate refused its result, which
# then does not replace the champion; 2 if no server answers; 1 if it failed, crashed or was cancelled, or could not be
# started; 130 at Ctrl-C. Ending this script does not end the run.
set -euo pipefail

: "${PREFECT_API_URL:?set it to the address of the Prefect server, for example http://127.0.0.1:4200/api}"

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
said=$(mktemp)
trap 'rm -f "$said"' EXIT

python "$folder/follow_run.py"
if ! prefect --no-prompt deployment run "$@" > "$said" 2>&1; then
    cat "$said" >&2
    exit 1
fi
python "$folder/follow_run.py" "$(sed -nE 's/.*UUID: ([0-9a-f-]{36}).*/\1/p' "$said" | head -n 1)"
