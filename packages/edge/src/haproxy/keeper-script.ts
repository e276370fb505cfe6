/**
 * The parent of HAProxy: it holds the sockets that listen (descriptors 3 and 4), so that nobody is refused while HAProxy is dead, and
 * starts it again from the files as they are, at once the first time, then after 0.1 s to 2 s. A shell, since it must be small, hold
 * still and outlive the program that wrote it. TERM ends it and HAProxy; USR1 ends a pause: the files are better now.
 */
export const KEEPER_NAME = 'roost-haproxy-keeper'

/** `sh -c SCRIPT KEEPER_NAME BINARY MASTER-SOCKET PID-FILE CONFIG LOG CGROUP BINDS`. */
export const KEEPER_SCRIPT = `
binary=$1 master=$2 pid=$3 config=$4 log=$5 cgroup=$6
child='' pause='' stopping=''
trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child"; [ -z "$pause" ] || kill "$pause"' TERM
trap '[ -z "$pause" ] || kill "$pause"' USR1
trap '' HUP INT
if [ -n "$cgroup" ]; then
  for group in "/sys/fs/cgroup$cgroup" "/sys/fs/cgroup/memory$cgroup" "/sys/fs/cgroup/pids$cgroup"; do
    [ ! -e "$group/cgroup.procs" ] || echo $$ > "$group/cgroup.procs"
  done
fi 2> /dev/null
tenths=0
while [ -z "$stopping" ]; do
  begin=$(date +%s)
  # On a full disk it says nothing, and starts.
  { : > "$log"; } 2> /dev/null || log=/dev/null
  "$binary" -W -q -S "$master,mode,600" -p "$pid" -f "$config" < /dev/null > "$log" 2>&1 &
  child=$!
  # A signal ends 'wait' early.
  while kill -0 "$child" 2> /dev/null; do wait "$child"; done
  child=''
  [ -z "$stopping" ] || break
  [ $(($(date +%s) - begin)) -lt 2 ] || tenths=0
  if [ $tenths -gt 0 ]; then
    sleep "$((tenths / 10)).$((tenths % 10))" &
    pause=$!
    wait "$pause"
    pause=''
  fi
  tenths=$((tenths * 2 + 1))
  [ $tenths -le 20 ] || tenths=20
done
`
