#!/bin/sh
# keep.sh FOLDER NAME LOG PROGRAM [ARGUMENT...]
# Runs one program and starts it again whenever it ends, after 0.2 s to 5 s. FOLDER/NAME.keeper and FOLDER/NAME.pid hold the
# process ids of keeper and program. Ends, with its program, on TERM or as soon as FOLDER/NAME.stop exists and the program has ended.
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

tenths=2
while [ -z "$stopping" ] && [ ! -e "$folder/$name.stop" ]; do
  # Programs keep their own logs; this one is what they say while they die.
  [ ! -e "$log" ] || [ "$(wc -c < "$log")" -lt 5000000 ] || mv "$log" "$log.1"
  begin=$(date +%s)
  "$@" >> "$log" 2>&1 < /dev/null &
  child=$!
  write "$name.pid" "$child"
  # A signal ends `wait` early.
  while kill -0 "$child" 2> /dev/null; do wait "$child"; done
  child=''
  rm -f "$folder/$name.pid"
  [ -z "$stopping" ] && [ ! -e "$folder/$name.stop" ] || break
  [ $(($(date +%s) - begin)) -lt 10 ] || tenths=2
  sleep "$((tenths / 10)).$((tenths % 10))" &
  pause=$!
  wait "$pause"
  pause=''
  tenths=$((tenths * 2))
  [ $tenths -le 50 ] || tenths=50
done
rm -f "$folder/$name.keeper" "$folder/$name.pid"
