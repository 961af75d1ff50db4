#!/usr/bin/env bash
# Trains what lock.json says. Needs bash, a Python with the packages of env/requirements.txt and torch, and the base
# model; it does not need finetui.
#
#   MODEL=/path/to/the/base/model bash launch.sh
#
#   MODEL               folder of the base model (required)
#   DATA                folder of the prepared rows           (default: data beside this file)
#   OUT                 folder for checkpoints and result     (default: out-NAME in the current folder)
#   PYTHON              the interpreter                       (default: python3)
#   FINETUI_EVENTS      file that events are appended to      (default: OUT/events.jsonl)
#   FINETUI_STOP_AFTER  end after so many optimizer steps, the schedule unchanged
#   FINETUI_RESUME      newest: go on from the newest complete checkpoint of OUT, or from the beginning where there is
#                       none; or the folder of a checkpoint in OUT/checkpoints
#   FINETUI_CHANGES     settings of memory and speed for a training that goes on, as JSON: {"per_device_train_batch_size": 1}
#   NNODES              so many machines share the training's processes (default: 1); on each of them launch.sh is started,
#                       with the same bundle and model, and with NODE_RANK and MASTER
#   NODE_RANK           the number of this machine, from 0; number 0 writes events and result
#   MASTER              HOST:PORT of number 0, as all of them reach it; the port is a free one
#   FINETUI_NODES_S     how long the machines wait for each other      (default: 600 seconds)
#   FINETUI_MEET_S      how long the processes may take to find each other before the model loads  (default: 120 seconds)
#   FINETUI_REHEARSE    1 tries the largest micro batches out before the first step, 0 does not (default: 1 on a GPU)
#
# Exit codes: 0 done; 1 the training failed, and the last line of the events says why; 2 MODEL or OUT is not usable;
# 5 the interpreter or one of its packages is missing; 75 interrupted by SIGTERM or SIGUSR1 after saving a checkpoint:
# FINETUI_RESUME=newest goes on from there.
set -euo pipefail

NEEDS=""
# >>> lock
NAME=unlocked
NPROC=1
# <<< lock

refuse() {
    printf 'launch.sh: %s\n' "$2" >&2
    exit "$1"
}
absolute() {
    case $1 in
        /*) printf '%s' "$1" ;;
        *) printf '%s/%s' "$PWD" "$1" ;;
    esac
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
PYTHON=${PYTHON:-python3}
[ -n "${MODEL:-}" ] || refuse 2 "set MODEL to the folder of the base model: MODEL=/path/to/model bash launch.sh"
[ -f "$MODEL/config.json" ] || refuse 2 "MODEL is not a model folder (it has no config.json): $MODEL"
[ -f "$here/lock.json" ] || refuse 2 "there is no lock.json beside launch.sh: $here"
command -v -- "$PYTHON" >/dev/null || refuse 5 "no interpreter at PYTHON=$PYTHON"
PYTHON=$(command -v -- "$PYTHON")
# shellcheck disable=SC2086  # NEEDS is words
missing=$("$PYTHON" -c 'import importlib.util as u, sys
print(*[n for n in sys.argv[1:] if not u.find_spec(n)])' torch transformers peft accelerate safetensors pyarrow $NEEDS)
[ -z "$missing" ] || refuse 5 "$PYTHON lacks the packages: $missing (see env/requirements.txt)"

PYTHON=$(absolute "$PYTHON")
MODEL=$(absolute "$MODEL")
DATA=$(absolute "${DATA:-$here/data}")
OUT=$(absolute "${OUT:-out-$NAME}")
FINETUI_EVENTS=$(absolute "${FINETUI_EVENTS:-$OUT/events.jsonl}")
[ ! -e "$OUT/done.json" ] || refuse 2 "OUT holds a run that has ended; choose another folder: $OUT"
[ -n "${FINETUI_RESUME:-}" ] || { [ ! -e "$OUT/output" ] && [ ! -s "$FINETUI_EVENTS" ]; } ||
    refuse 2 "OUT already holds a run; choose another folder, or go on with it by FINETUI_RESUME=newest: $OUT"
case ${FINETUI_RESUME:-} in
    "" | newest) ;;
    *) FINETUI_RESUME=$(absolute "$FINETUI_RESUME") && export FINETUI_RESUME ;;
esac
together=(--standalone)
if [ "${NNODES:-1}" -gt 1 ]; then
    [ $((NPROC % NNODES)) -eq 0 ] || refuse 2 "$NNODES machines cannot share the $NPROC processes of the lock evenly"
    [ "${NODE_RANK:--1}" -ge 0 ] && [ "$NODE_RANK" -lt "$NNODES" ] || refuse 2 "set NODE_RANK to this machine's number: 0 to $((NNODES - 1))"
    [[ ${MASTER:-} =~ ^.+:[0-9]+$ ]] || refuse 2 "set MASTER to HOST:PORT of machine 0"
    NPROC=$((NPROC / NNODES))
    together=(--nnodes "$NNODES" --node-rank "$NODE_RANK" --master-addr "${MASTER%:*}" --master-port "${MASTER##*:}")
    export NNODES NODE_RANK MASTER
fi
mkdir -p -- "$OUT"

export MODEL DATA OUT FINETUI_EVENTS
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}
unset PYTHONSAFEPATH  # train/ is found from the folder of this file
# Each of these chooses other arithmetic, and with it other bits.
unset ATEN_CPU_CAPABILITY DNNL_MAX_CPU_ISA MKL_CBWR MKL_ENABLE_INSTRUCTIONS MKL_NUM_THREADS ONEDNN_MAX_CPU_ISA
cd -- "$here"
exec "$PYTHON" -m train.start "${together[@]}" --max-restarts 0 --nproc-per-node "$NPROC" -m train.main
