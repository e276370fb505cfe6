#!/usr/bin/env bash
# Runs a program on what others leave of the cores. Start it by `setsid`: Linux shares the cores out among sessions, and this one gets the least.
set -euo pipefail
[ ! -e /proc/self/autogroup ] || echo 19 > /proc/self/autogroup
exec nice -n 19 "$@"
