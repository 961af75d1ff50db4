# Every node runs launch.sh of the bundle once, and launch.sh starts the node's processes. BUNDLE, MODEL, OUT and PYTHON
# have to be there under the same paths on every node. Before the time limit, and where the job is preempted, the
# training saves a checkpoint and ends with 75; the job is then queued again and goes on from there.
# >>> export
# <<< export

set -uo pipefail # not before: what a site runs first may rely on variables that are not set
export BUNDLE MODEL OUT PYTHON
mkdir -p -- "$OUT"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" --oneliner | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
export NNODES=$SLURM_JOB_NUM_NODES MASTER="${address:-$first}:$((20000 + SLURM_JOB_ID % 20000))"
[ ! -s "$OUT/events.jsonl" ] || export FINETUI_RESUME=newest

newest() {
    find "$OUT/checkpoints" -path '*/checkpoint-*/complete.json' 2>/dev/null | sort -V | tail -n 1
}
keep() { # what the training ended with, for who looks later
    printf '{"exit_code": %d, "time": %(%s)T}\n' "$1" -1 >"$OUT/exit.json.part" && mv -f -- "$OUT/exit.json.part" "$OUT/exit.json"
    exit "$1"
}

trap : TERM USR1 # the training is asked to save, not this: it has to see the end
before=$(newest)
# shellcheck disable=SC2016  # the node's own number, known only there
srun --nodes="$NNODES" --ntasks="$NNODES" --ntasks-per-node=1 --kill-on-bad-exit=0 --export=ALL \
    bash -c 'NODE_RANK=$SLURM_NODEID exec bash "$BUNDLE/launch.sh"' &
step=$!
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"
code=$?

[ "$code" -eq 75 ] && [ ! -e "$OUT/stop" ] || keep "$code"
[ "$(newest)" != "$before" ] || { echo "job: nothing was saved since the last start; not queued again" >&2 && keep "$code"; }
echo "job: saved, and queued again" >&2
scontrol requeue "$SLURM_JOB_ID" || keep "$code"
sleep 60 # until Slurm ends this
