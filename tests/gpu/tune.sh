#!/usr/bin/env bash
# The sweeps behind autotune/db/ and behind the check of the performance model, in a time box. Needs a GPU and the
# `winnow` tool. Files in the folder are resumed, so several runs (also on several machines of one kind) finish a sweep:
# all parts together take about half an hour on an H200 with 16 cores.
#   tests/gpu/tune.sh [path of winnow] [folder for the tuned files]
# Variables: PARTS (default: bars full quick decode backward proxy_80 proxy_89), BOX (seconds for everything, 570), GPUS (0; e.g. 0-3),
# PROXY_SEQ (lengths of the proxies, 16384; with 131072 they take five times as long).
#   bars       a quick and a full sweep of one spec, timed: 15 and 90 s are allowed. Where the first one fails, the
#              rest would too, and is left out
#   full       autotune/db/models.json       quick  autotune/db/specs.json, into h200.jsonl
#   decode     autotune/db/decode.json, into h200.jsonl too
#   backward   autotune/db/backward.json, too: gradients
#   proxy_80   the same specs as code for an A100, run as PTX on this card; proxy_89  for an RTX 4090
# Exit code 0 only if every part finished, the bars in time. One line per part; details are in the folder.
set -u
here=$(cd "$(dirname "$0")" && pwd)
winnow=${1:-$here/../../build/bin/winnow}
out=${2:-/tmp/winnow-tune}
db=$here/../../autotune/db
PARTS=${PARTS:-bars full quick decode backward proxy_80 proxy_89} BOX=${BOX:-570} GPUS=${GPUS:-0} PROXY_SEQ=${PROXY_SEQ:-16384}
mkdir -p "$out"
# Where the driver keeps what it compiled from PTX: compiling processes fill it for the one that measures.
export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$out/driver-cache} CUDA_CACHE_MAXSIZE=4294967296
failed=0

sweep() { # name, file, words of winnow tune...
  local name=$1 file=$2 began=$SECONDS left=$((BOX - SECONDS)) code=0
  shift 2
  if ((left < 10)); then
    printf 'LATE  %-9s no time left of %s s\n' "$name" "$BOX"
    failed=1
    return 1
  fi
  # SIGINT ends a sweep after its present launch; what is finished stays in the file.
  timeout -s INT -k 20 "$left" "$winnow" tune "$@" --gpus "$GPUS" --db "$out/$file" --resume >"$out/$name.txt" 2>"$out/$name.err" || code=$?
  ((code)) && failed=1
  printf '%s  %-9s %4d s  %s\n' "$( ((code)) && echo "exit $code" || echo "done")" "$name" $((SECONDS - began)) \
    "$(grep -h 'tasks done,' "$out/$name.err" | tail -n 1)"
  ((code)) && grep -h -v 'tasks done' "$out/$name.err" | tail -n 5
  rm -rf "$out/$file.work"
  return "$code"
}

bar() { # space, seconds allowed: once per folder
  local began=$SECONDS
  [[ -e $out/bar_$1.done ]] && return 0
  sweep "bar_$1" "bar_$1.jsonl" infllm_v2 --space "$1" || return
  touch "$out/bar_$1.done"
  ((SECONDS - began <= $2)) && return 0
  printf 'SLOW  bar_%-6s more than %s s\n' "$1" "$2"
  failed=1
  return 0
}

proxy() { # architecture
  sweep "proxy_$1" "proxy_$1.jsonl" infllm_v2 --heads 32 --group 1,4,16 --head-dim 64,128 --block 64,128 --topk 16,96 \
    --seq "$PROXY_SEQ" --overlap 1,32 --space quick --arch "sm_$1" --ptx --verify winner
}

for part in $PARTS; do
  case $part in
    bars)
      bar quick 15 || exit 1
      bar full 90
      ;;
    quick) sweep quick h200.jsonl "$db/specs.json" --space quick ;;
    full) sweep full h200.jsonl "$db/models.json" --space full ;;
    decode) sweep decode h200.jsonl "$db/decode.json" --space quick ;;
    backward) sweep backward h200.jsonl "$db/backward.json" --space quick ;;
    proxy_80 | proxy_89) proxy "${part#proxy_}" ;;
    *) echo "unknown part $part" && failed=1 ;;
  esac
done
exit $failed
