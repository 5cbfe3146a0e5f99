#!/bin/sh
# Tunes the grid of this folder offline and writes what an engine ships. Stopped and started again, it goes on.
# Usage: tune.sh FOLDER [more arguments of winnow tune]
# Entry: winnow in PATH, and a GPU. Without one PROFILE=a100 (rtx4090, h200) has a performance model choose instead; its
# records say so, and a measured one always comes before them.
# Exit: FOLDER/tuned.jsonl, the records; FOLDER/report.html, what was tried and what it gained.
set -eu
if [ $# -lt 1 ]; then
  echo "usage: tune.sh FOLDER [more arguments of winnow tune]" >&2
  exit 2
fi
folder=$1
shift
grid=$(dirname "$0")/grid.json
mkdir -p "$folder"
if [ -n "${PROFILE:-}" ]; then
  winnow model choose "$grid" --device-profile "$PROFILE" --db "$folder/sweep.jsonl"
else
  winnow tune "$grid" --db "$folder/sweep.jsonl" --resume "$@"
fi
winnow db verify "$folder/sweep.jsonl"
winnow db export "$folder/sweep.jsonl" -o "$folder/tuned.jsonl"
winnow report "$folder/sweep.jsonl" -o "$folder/report.html"
