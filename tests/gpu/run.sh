#!/usr/bin/env bash
# The GPU suite, in a time box: conformance of native, sm_80-level and sm_89-level code, random cases,
# compute-sanitizer, times beside PyTorch's dense attention, a million tokens. One line per part; everything else is
# in the folder for logs. Needs a GPU and the `winnow` tool; whatever is compiled comes from the cache if it is there.
#   tests/gpu/run.sh [path of winnow] [folder for logs]
#   PARTS=backward tests/gpu/run.sh   gradients: random draws, the same bits from every launch, times beside PyTorch's
#   PARTS=further tests/gpu/run.sh    what the box has no room for: pools beyond 2^31 elements, decode beside PyTorch's, fp8
#                                     keys that change from launch to launch, chunks, gradients of regions, the examples
# Variables: PARTS (default: all but backward and those of further, in the order below), WINNOW_CACHE_DIR (cache of compiled
# kernels), BOX (seconds for everything, 540; what follows the first parts of further may not fit), ARCH (the card's own architecture, sm_90a), SEED and DRAWS (random cases), README (the page that gets
# the table of times between its marks: docs/performance.md), EXAMPLES (where the examples were built: examples/README.md).
#   PARTS=prepare tests/gpu/run.sh    fills the cache for all parts; needs no GPU
# Exit code 0 only if every part passed. A part that cannot run, or has no time left, is a failure, not a pass.
set -u
here=$(cd "$(dirname "$0")" && pwd)
winnow=${1:-$here/../../build/bin/winnow}
logs=${2:-/tmp/winnow-gpu}
PARTS=${PARTS:-doctor native sm_80 random memcheck racecheck synccheck initcheck bench million sm_89 regions soak run}
[[ $PARTS != further ]] || PARTS="large decode fp8_soak chunks region_gradients examples"
BOX=${BOX:-540} ARCH=${ARCH:-sm_90a} SEED=${SEED:-1} DRAWS=${DRAWS:-500}
EXAMPLES=$(realpath -m "${EXAMPLES:-$here/../../build-examples}")
mkdir -p "$logs"
failed=0

# What each part compiles is named once, for running and for preparing.
recorded=(--recorded "$here/../../reference/recorded" --method infllm_v2)
sm_89_cases=(--filter 'model_shape|group|block|tail|adversarial|dense|overlap_pool|per_query|rewritten|fp8')
random=(--random "$DRAWS" --seed "$SEED")
bench=(prefill --seq "16384,32768,131072" --topk "96,16" --overlap "1,8,32,128")
backward=(backward --seq "32768,131072" --topk "96,16" --overlap "1,8,32")
random_gradients=(--random 300 --backward --seed "$SEED")
soak=(--steps 1000) busy=(--steps 2000 --phase all --busy)
fp8_soak=(--steps 1000 --kv-dtype fp8_e4m3)
large=(--large --filter '^(paged|paged_by_warps|decode)_past_2_31$')
decode=(decode --batch "1,16" --seq "32768,131072")
scattered=(decode --batch 16 --seq 131072 --layout pages --page-size 1)
million=(prefill --seq 1048576 --topk 96 --overlap 32 --rounds 3 --rows 8)
broad='^(tail|compat_tail|short|empty|history|many_kv|group|block|topk_[13]|lse|softmax|wide|ties|poison|adversarial|dense|overlap_pool|per_query|rewritten|fp8|backward|paged_(halves|tokens|pages|rows|pairs|given|small)|decode_(alone|drafts|given_ids|dense|clusters|new_rows|parts)|append_)'
small='^(short_sequences|group_2|block_128_group_4|per_query_head_block_128|adversarial_ids_group_1|dense_group_1_fp16|overlap_pool_group_4_fp16|rewritten_scores_group_2|paged_tokens_1|decode_alone_short|decode_clusters_small_group|append_tokens_1|fp8_decode_drafts|backward_lengths|backward_given_ids)$'

part() { # name, seconds at most, command...: runs it within the box, keeps its output, reports in one line
  local name=$1 limit=$2 began=$SECONDS left=$((BOX - SECONDS)) code=0
  shift 2
  if ((left < 5)); then
    printf 'FAIL  %-12s        no time left of %s s\n' "$name" "$BOX"
    failed=1
    return
  fi
  ((limit > left)) && limit=$left
  timeout -k 5 "$limit" "$@" >"$logs/$name.txt" 2>"$logs/$name.err" || code=$?
  local verdict=pass words
  words=$(tail -n 1 "$logs/$name.txt" | cut -c1-140)
  if ((code)); then
    verdict=FAIL
    failed=1
    words="exit code $code; $words; $(tail -n 1 "$logs/$name.err" | cut -c1-200)"
    ((code == 124)) && words="stopped after $limit s; $words"
  fi
  printf '%s  %-12s %4d s  %s\n' "$verdict" "$name" $((SECONDS - began)) "$words"
  ((code)) && grep -h -m 3 -E '^FAIL|WRONG|=========.*(ERROR|Invalid|hazard)' "$logs/$name.txt" | sed 's/^/      /'
}

check() { # name, seconds at most, flags...
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" "$winnow" check --device cuda "$@"
}

shards() { # flags...: six processes side by side, because the driver compiles PTX on one core each
  local count=6 i pids=() code=0
  for ((i = 0; i < count; i++)); do
    "$winnow" check --device cuda --part "$i/$count" "$@" >"$logs/shard.$i" 2>"$logs/shard.$i.err" &
    pids+=($!)
  done
  for i in "${!pids[@]}"; do
    wait "${pids[i]}" || code=$?
    cat "$logs/shard.$i"
    grep -h '^winnow:' "$logs/shard.$i.err" >&2
  done
  awk '/^[0-9]+ passed/ {p += $1; f += $3} END {print p + 0 " passed, " f + 0 " failed"}' "$logs"/shard.[0-9]
  return "$code"
}

sanitize() { # tool, seconds at most, cases
  part "$1" "$2" compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 5 "$winnow" check --device cuda --filter "$3"
}

prepare() {
  "$winnow" check --arch "$ARCH" --prepare "${recorded[@]}" &&
    "$winnow" check --arch sm_80 --ptx --prepare "${recorded[@]}" &&
    "$winnow" check --arch sm_89 --ptx --prepare "${sm_89_cases[@]}" &&
    "$winnow" check --arch "$ARCH" --prepare "${random[@]}" &&
    "$winnow" check --arch "$ARCH" --prepare --large --filter offsets_past &&
    "$winnow" bench "${bench[@]}" --arch "$ARCH" --prepare &&
    "$winnow" bench "${backward[@]}" --arch "$ARCH" --prepare &&
    "$winnow" bench backward dense --arch "$ARCH" --prepare &&
    "$winnow" check --arch "$ARCH" --prepare "${random_gradients[@]}" &&
    "$winnow" soak backward --arch "$ARCH" --prepare && "$winnow" soak backward --topk 96 --arch "$ARCH" --prepare &&
    "$winnow" check --arch "$ARCH" --prepare "${large[@]}" &&
    "$winnow" bench "${decode[@]}" --arch "$ARCH" --prepare && "$winnow" soak "${fp8_soak[@]}" --arch "$ARCH" --prepare &&
    "$winnow" soak --arch "$ARCH" --prepare && "$winnow" soak dense --arch "$ARCH" --prepare &&
    "$winnow" compile infllm_v2 >/dev/null
}

times() {
  # shellcheck disable=SC2046
  set -- $(python3 "$here/dense_peers.py" --seq 16384 32768 131072 | tr '\n' ' ')
  "$winnow" bench "${bench[@]}" "$@" --json >"$logs/bench.json" &&
    "$winnow" bench table "$logs/bench.json" ${README:+--into "$README"} &&
    if [[ $# == 0 ]]; then echo "no peer was measured" && false; else echo "peers: $*"; fi
}

gradients() { # the same bits from every launch, times over given blocks, and of dense attention beside PyTorch's
  "$winnow" soak backward && "$winnow" soak backward --seq 131072 --topk 96 --steps 1 --busy &&
    "$winnow" bench "${backward[@]}" &&
    python3 "$here/backward_peer.py" --seq 16384,32768 >"$logs/backward_peers.jsonl" &&
    "$winnow" bench backward dense --seq 16384,32768 --peer "$logs/backward_peers.jsonl"
}

million() {
  "$winnow" bench "${million[@]}" --json >"$logs/million.json" && "$winnow" bench table "$logs/million.json" &&
    "$winnow" check --device cuda --large --filter offsets_past
}

decode_steps() { # beside dense decode of PyTorch's; then pages of one token, which lie anywhere, and in runs
  python3 "$here/decode_peer.py" "${decode[@]:1}" >"$logs/decode_peers.jsonl" &&
    "$winnow" bench "${decode[@]}" --peer "$logs/decode_peers.jsonl" &&
    "$winnow" bench "${scattered[@]}" && "$winnow" bench "${scattered[@]}" --page-run 64
}

doctor() {
  "$winnow" doctor && "$winnow" doctor | grep -m 1 '^driver'
}

regions() { # what random elementwise regions give, by the check of `winnow run`
  local method
  for method in "$here"/../regions/methods/*.mlir; do
    "$winnow" run "$method" --device cuda --arch none --seq 2000,777 --heads 8 --kv-heads 2 --no-dense || return
  done
}

region_gradients() { # derivatives of the same regions
  local method
  for method in "$here"/../regions/methods/*.mlir; do
    "$winnow" run "$method" --backward --device cuda --arch none --seq 2000,777 --heads 8 --kv-heads 2 --no-dense || return
  done
}

chunks() { # a prompt in chunks that end nowhere in particular, then tokens one by one
  "$winnow" run infllm_v2 --seq 20000,3000 --layout halves --page-size 16 --chunk 7001 --decode 8 --no-dense --arch none &&
    "$winnow" run infllm_v2 --seq 9000,500 --layout pages --page-size 1 --chunk 977 --decode 4 --no-dense --arch none
}

examples() { # as they were built against an installed Winnow
  "$EXAMPLES/embed_c/embed_c" | tee "$logs/embed_c.txt" && grep -q 'first output is 1 ' "$logs/embed_c.txt" &&
    "$EXAMPLES/engine_cpp/engine_cpp" | tee "$logs/engine_cpp.txt" && grep -q '^on GPU 0' "$logs/engine_cpp.txt" &&
    (cd "$logs" && "$EXAMPLES/new_method/new_method") &&
    rm -rf "$logs/sweep" && PATH="$(dirname "$winnow"):$PATH" "$here/../../examples/sweep/tune.sh" "$logs/sweep" &&
    "$EXAMPLES/sweep/sweep" "$logs/sweep/tuned.jsonl" | tee "$logs/sweep.txt" &&
    grep -q 'measured for this problem on this GPU' "$logs/sweep.txt"
}

run() {
  "$winnow" run "$here/../../examples/softcap.mlir" --seq 8192 --topk 64 --no-dense --svg "$logs/softcap.svg" &&
    "$winnow" run infllm_v2 --svg "$logs/selection.svg"
}

soaks() { # a captured decode launch whose arrays change at random, then beside a stream that takes half of the GPU
  "$winnow" soak "${soak[@]}" && "$winnow" soak dense "${soak[@]}" && "$winnow" soak "${busy[@]}"
}

# Functions under `timeout` need a shell of their own.
export -f doctor shards prepare times gradients million decode_steps regions region_gradients soaks chunks examples run
export winnow here logs ARCH README EXAMPLES
inside() { # function, flags...: a command line that runs it
  printf '%s; ' "$(declare -p recorded sm_89_cases random bench backward random_gradients million soak busy large decode scattered)"
  printf '%q ' "$@"
}

for name in $PARTS; do
  case $name in
  prepare) BOX=3600 && part prepare 3600 bash -c "$(inside prepare)" ;;
  doctor) part doctor 20 bash -c "$(inside doctor)" ;;
  native) check native 90 "${recorded[@]}" ;;
  sm_80) part sm_80 120 bash -c "$(inside shards --arch sm_80 --ptx "${recorded[@]}")" ;;
  sm_89) part sm_89 100 bash -c "$(inside shards --arch sm_89 --ptx "${sm_89_cases[@]}")" ;;
  random) check random 150 "${random[@]}" ;;
  memcheck) sanitize memcheck 150 "$broad" ;;
  racecheck | synccheck | initcheck) sanitize "$name" 60 "$small" ;;
  bench) part bench 150 bash -c "$(inside times)" ;;
  backward) check random_gradients 90 "${random_gradients[@]}"; part backward 180 bash -c "$(inside gradients)" ;;
  million) part million 90 bash -c "$(inside million)" ;;
  regions) part regions 60 bash -c "$(inside regions)" ;;
  soak) part soak 90 bash -c "$(inside soaks)" ;;
  large) check large 300 "${large[@]}" ;;
  decode) part decode 120 bash -c "$(inside decode_steps)" ;;
  fp8_soak) part fp8_soak 60 "$winnow" soak "${fp8_soak[@]}" ;;
  chunks) part chunks 60 bash -c "$(inside chunks)" ;;
  region_gradients) part region_gradients 90 bash -c "$(inside region_gradients)" ;;
  examples) part examples 180 bash -o pipefail -c "$(inside examples)" ;;
  run) part run 60 bash -c "$(inside run)" ;;
  *) printf 'FAIL  %-12s        no such part\n' "$name" && failed=1 ;;
  esac
done
printf '%d s; logs in %s\n' "$SECONDS" "$logs"
exit $failed
