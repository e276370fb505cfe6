#!/bin/sh
# keep.sh FOLDER NAME LOG PROGRAM [ARGUMENT...]
# Runs one program and starts it again whenever it ends, after 0.2 s to 5 s, and after 15 s when it has ended ten times within 10 s
# of its start. FOLDER/NAME.keeper and FOLDER/NAME.pid hold the process ids of keeper and program; FOLDER/NAME.ends how often it
# ended, how often in a row it did so soon, its last exit code and when. Ends, with its program, on TERM or as soon as
# FOLDER/NAME.stop exists and the program has ended. FOLDER/NAME.limits, if there is one, says what the program may use: a line
# `oom SCORE`, and lines `group PATH BYTES PROCESSES`, of which it gets into the first; the others are made for what it starts.
set -u
folder=$1 name=$2 log=$3
shift 3
child='' pause='' stopping=''

stop() {
  stopping=yes
  [ -z "$child" ] || kill -TERM "$child" 2> /dev/null
  [ -z "$pause" ] || kill -TERM "$pause" 2> /dev/null
}
trap stop TERM INT
trap '' HUP
# As many open files as this machine allows: proxies and container runtimes use one for each connection and pipe.
ulimit -n "$(ulimit -Hn)" 2> /dev/null

write() {
  echo "$2" > "$folder/$1.new" && mv "$folder/$1.new" "$folder/$1"
}
write "$name.keeper" $$

# Makes the program's control groups and leaves in $joins the files by which it gets in. Runs before each start: somebody may have
# removed them, or changed what is allowed. A machine that lets us have none runs the program without.
confine() {
  joins='' oom=''
  [ -r "$folder/$name.limits" ] || return 0
  while read -r word path bytes processes; do
    case $word in
      oom) oom=$path ;;
      group) group "$path" "$bytes" "$processes" ;;
    esac
  done < "$folder/$name.limits"
}

group() {
  top=/sys/fs/cgroup
  if [ -e $top/cgroup.controllers ]; then
    at=$top
    for part in $(echo "$1" | tr / ' '); do
      echo '+memory +pids' > "$at/cgroup.subtree_control"
      at=$at/$part
      mkdir -p "$at"
    done
    echo "$2" > "$at/memory.max"
    echo "$3" > "$at/pids.max"
    [ -n "$joins" ] || joins=$at/cgroup.procs
  else
    mkdir -p "$top/memory$1" "$top/pids$1"
    echo "$2" > "$top/memory$1/memory.limit_in_bytes"
    echo "$3" > "$top/pids$1/pids.max"
    [ -n "$joins" ] || joins="$top/memory$1/cgroup.procs $top/pids$1/cgroup.procs"
  fi
}

# The program's first moment: into its groups, then itself. Not everybody may go below the score it was given.
enter='
{
  [ -z "$1" ] || echo "$1" > /proc/self/oom_score_adj
  for file in $2; do echo $$ > "$file"; done
} 2> /dev/null
shift 2
exec "$@"'

tenths=2 ends=0 soon=0 code=0 joins='' oom=''
while [ -z "$stopping" ] && [ ! -e "$folder/$name.stop" ]; do
  # Programs keep their own logs; this one is what they say while they die.
  [ ! -e "$log" ] || [ "$(wc -c < "$log")" -lt 5000000 ] || mv "$log" "$log.1"
  confine 2> /dev/null
  begin=$(date +%s)
  /bin/sh -c "$enter" sh "$oom" "$joins" "$@" >> "$log" 2>&1 < /dev/null &
  child=$!
  write "$name.pid" "$child"
  # Asked for at least once: a shell that was busy while its program ended has its code, and no process any more. A signal ends
  # `wait` early.
  wait "$child"
  code=$?
  while kill -0 "$child" 2> /dev/null; do
    wait "$child"
    code=$?
  done
  child=''
  rm -f "$folder/$name.pid"
  [ -z "$stopping" ] && [ ! -e "$folder/$name.stop" ] || break
  now=$(date +%s)
  ends=$((ends + 1)) soon=$((soon + 1))
  [ $((now - begin)) -lt 10 ] || tenths=2 soon=0
  write "$name.ends" "$ends $soon $code $now"
  [ $soon -lt 10 ] || tenths=150
  sleep "$((tenths / 10)).$((tenths % 10))" &
  pause=$!
  wait "$pause"
  pause=''
  tenths=$((tenths * 2))
  [ $tenths -le 50 ] || tenths=50
done
rm -f "$folder/$name.keeper" "$folder/$name.pid" "$folder/$name.ends"
