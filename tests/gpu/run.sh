#!/usr/bin/env bash
# The GPU suite: conformance of native and of sm_80-level code, the recorded answers, compute-sanitizer, times beside
# PyTorch's dense attention. Needs a GPU, NVRTC and the `winnow` tool; everything else is in the tool.
#   tests/gpu/run.sh [path of winnow] [folder for logs]
# Exit code 0 only if every part passed. A part that cannot run is a failure, not a pass.
set -u
here=$(cd "$(dirname "$0")" && pwd)
winnow=${1:-$here/../../build/bin/winnow}
logs=${2:-/tmp/winnow-gpu}
mkdir -p "$logs"
failed=0

part() { # name, command...: runs it, keeps its output, reports pass or fail
  local name=$1
  shift
  if "$@" >"$logs/$name.txt" 2>&1; then
    printf 'pass  %-22s %s\n' "$name" "$(tail -n 1 "$logs/$name.txt" | cut -c1-120)"
  else
    printf 'FAIL  %-22s %s\n' "$name" "$(tail -n 1 "$logs/$name.txt" | cut -c1-120)"
    failed=1
  fi
}

sanitize() { # tool
  compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 5 "$winnow" check --device cuda \
    --filter '^(tail_of_the_stride|group_4|block_128_group_4|per_query_head|adversarial_ids|dim_256_group_8_poison|value_dim_96_group_6|block_16_poison)$'
}

part doctor "$winnow" doctor
part native "$winnow" check --device cuda --recorded "$here/../recorded" --method infllm_v2
part sm_80_level "$winnow" check --device cuda --arch sm_80 --ptx --recorded "$here/../recorded" --method infllm_v2
part sm_89_level "$winnow" check --device cuda --arch sm_89 --ptx --filter 'model_shape|group|block|tail|dim'
for tool in memcheck racecheck initcheck synccheck; do
  part "$tool" sanitize "$tool"
done
for seq in 32768 131072; do
  peers=$(python3 "$here/dense_peers.py" --seq "$seq" 2>"$logs/peers_$seq.txt" | tr '\n' ' ')
  # shellcheck disable=SC2086
  part "bench_$seq" "$winnow" bench prefill --seq "$seq" --overlap 1,8,32 $peers
  cat "$logs/bench_$seq.txt"
done
part own_method "$winnow" run "$here/../../examples/softcap.mlir" --seq 8192 --topk 64 --no-dense --svg "$logs/softcap.svg"
part main_job "$winnow" run infllm_v2 --svg "$logs/selection.svg"
cat "$logs/main_job.txt"
exit $failed
