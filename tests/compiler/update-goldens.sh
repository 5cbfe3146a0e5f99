#!/usr/bin/env bash
# Rewrites the golden kernels, recipes and digests from the compiler's present output; review the diff before committing it.
#   tests/compiler/update-goldens.sh [build folder]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"${1:-$here/../../build}/bin/compiler_tests" --gtest_filter='*Goldens*' --update-goldens
git -C "$here" diff --stat -- goldens || true
