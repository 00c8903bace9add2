#!/usr/bin/env bash
# Run a command on a Ray cluster inside a Slurm job. In a clone with its environment in .venv:
#   sbatch cluster/slurm.sh python -m study.run --preset paper --data /shared/store --results /shared/results/kidneys \
#     --set resources.cpus_per_trial=8
# Before the time limit, the script stops the driver and puts the job back into the queue, where it resumes.
#SBATCH --job-name=renalnet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.log
set -euo pipefail

[ $# -gt 0 ] || { echo "error: no command; sbatch cluster/slurm.sh python -m study.run --preset paper ..." >&2; exit 2; }
cd "${SLURM_SUBMIT_DIR:-$PWD}"
export PATH="${RENALNET_ENV:-$PWD/.venv}/bin:$PATH"
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}  # since Slurm 22.05, srun does not inherit it from the job
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN

# Ports and folders of this job alone, since another job may run on the same nodes.
port=$((20000 + SLURM_JOB_ID % 10000))
dashboard=$((30000 + SLURM_JOB_ID % 10000))
client=$((40000 + SLURM_JOB_ID % 10000))
folder=/tmp/ray-$SLURM_JOB_ID
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# The last node resolves the head's name, because on the head itself it may be 127.0.1.1.
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[-1]}" getent ahostsv4 "$head" | awk 'NR == 1 {print $1}' || true)
[ -n "$head_ip" ] || head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | awk '{print $1}')
export RAY_ADDRESS=$head_ip:$port RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard

# Run on a node: run_node FOLDER OPTIONS of `ray start`. It removes the folder at the end.
run_node() {
  ray start --block --temp-dir="$1" "${@:2}" &
  ray=$!
  trap 'kill -TERM "$ray"' TERM
  code=0
  wait "$ray" || code=$?
  while kill -0 "$ray" 2>/dev/null; do  # a signal ended `wait`, not Ray
    code=0
    wait "$ray" || code=$?
  done
  rm -rf "$1"
  exit "$code"
}

node_pids=()
# start_node NUMBER OPTIONS of `ray start`
start_node() {
  srun --nodes=1 --ntasks=1 --nodelist="${nodes[$1]}" --export=ALL \
    bash -c "$(declare -f run_node); run_node \"\$@\"" ray "$folder-$1" --num-cpus="$SRUN_CPUS_PER_TASK" "${@:2}" &
  node_pids+=("$!")
}

take_down() {
  kill -TERM "${node_pids[@]}" 2>/dev/null || true
  wait "${node_pids[@]}" 2>/dev/null || true
}
trap take_down EXIT

start_node 0 --head --port="$port" --node-ip-address="$head_ip" --ray-client-server-port="$client" \
  --dashboard-host=127.0.0.1 --dashboard-port="$dashboard"
python -m cluster.wait --nodes 1
for number in "${!nodes[@]}"; do
  [ "$number" -eq 0 ] || start_node "$number" --address="$RAY_ADDRESS"
done
python -m cluster.wait --nodes "${#nodes[@]}"

stopped=no
"$@" &
driver=$!
trap 'stopped=yes; kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do  # a signal ended `wait`, not the driver
  code=0
  wait "$driver" || code=$?
done
if [ "$stopped" = yes ] && [ "$code" -ne 0 ]; then
  echo "the time limit is near: the job goes back into the queue and resumes later"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
