#!/usr/bin/env bash
# Runs launch.sh and keeps what it ended with, so that the supervisor may die meanwhile.
#
#   bash keep_exit.sh RUN_DIR LAUNCH_SH SUPERVISOR_PID SUPERVISOR_START PYTHON
#
# Where the supervisor is gone at the end, another one is started in its place to write down how the run ended.
trap : TERM # the training is asked to end, not this: what it ends with is still to be kept
bash -- "$2"
code=$?
printf '{"exit_code": %d, "time": %(%s)T}\n' "$code" -1 >"$1/exit.json.part" && mv -f -- "$1/exit.json.part" "$1/exit.json"

supervised() { # a pid alone is not enough: nobody may have buried the supervisor, or its pid is another's by now
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] && ${fields[19]} == "$2" ]]
}

supervised "$3" "$4" || exec "$5" -P -m finetui.runs.supervise conclude "$1"
exit "$code"
