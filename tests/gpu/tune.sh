#!/usr/bin/env bash
# The sweeps behind autotune/db/ and behind the check of the performance model, in a time box. Needs a GPU and the
# `winnow` tool. Files in the folder are resumed, so several runs (also on several machines of one kind) finish a sweep.
#   tests/gpu/tune.sh [path of winnow] [folder for the tuned files]
# Variables: PARTS (default: bars quick full proxy_80 proxy_89), BOX (seconds for everything, 570).
#   bars       a full and a quick sweep of one spec, timed
#   quick      autotune/db/specs.json        full  autotune/db/models.json, into h200.jsonl
#   proxy_80   the same specs as code for an A100, run as PTX on this card; proxy_89  for an RTX 4090
# Exit code 0 only if every part finished. One line per part; details are in the folder.
set -u
here=$(cd "$(dirname "$0")" && pwd)
winnow=${1:-$here/../../build/bin/winnow}
out=${2:-/tmp/winnow-tune}
db=$here/../../autotune/db
PARTS=${PARTS:-bars quick full proxy_80 proxy_89} BOX=${BOX:-570}
mkdir -p "$out"
failed=0

sweep() { # name, file, words of winnow tune...
  local name=$1 file=$2 began=$SECONDS left=$((BOX - SECONDS)) code=0
  shift 2
  if ((left < 10)); then
    printf 'LATE  %-9s no time left of %s s\n' "$name" "$BOX"
    failed=1
    return
  fi
  # SIGINT ends a sweep after its present launch; what is finished stays in the file.
  timeout -s INT -k 20 "$left" "$winnow" tune "$@" --db "$out/$file" --resume >"$out/$name.txt" 2>"$out/$name.err" || code=$?
  ((code)) && failed=1
  printf '%s  %-9s %4d s  %s\n' "$( ((code)) && echo "exit $code" || echo done)" "$name" $((SECONDS - began)) \
    "$(grep -h 'tasks done,' "$out/$name.err" | tail -n 1)"
  ((code)) && grep -h -v 'tasks done' "$out/$name.err" | tail -n 5
  rm -rf "$out/$file.work"
}

for part in $PARTS; do
  case $part in
    bars)
      rm -f "$out/bars.jsonl"
      sweep bar_quick bars.jsonl infllm_v2 --space quick
      sweep bar_full bars.jsonl infllm_v2 --space full
      ;;
    quick) sweep quick h200.jsonl "$db/specs.json" --space quick ;;
    full) sweep full h200.jsonl "$db/models.json" --space full ;;
    proxy_80) sweep proxy_80 proxy_80.jsonl "$db/specs.json" --space quick --arch sm_80 --ptx --verify winner ;;
    proxy_89) sweep proxy_89 proxy_89.jsonl "$db/specs.json" --space quick --arch sm_89 --ptx --verify winner ;;
    *) echo "unknown part $part" && failed=1 ;;
  esac
done
exit $failed
