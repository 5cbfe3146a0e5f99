#!/bin/sh
# Packs the Python package with the libraries of a finished build into one wheel for every CPython from 3.11 on:
# wheel.sh BUILD. Needs PyPI for the packers (pinned in tools/requirements.txt), which go into BUILD/wheel/tools.
# Exit: BUILD/wheel/winnow-VERSION-cp311-abi3-PLATFORM.whl, whose libraries ask for no newer glibc than PLATFORM says;
# otherwise one clear message and exit status 1.
set -eu
cd "$(dirname "$0")/.."
build=$(cd "$1" && pwd)
platform=manylinux_2_35_x86_64 # Ubuntu 22.04, the base of most CUDA images, and newer
folder=$build/wheel
tools=$folder/tools

die() { echo "wheel: $*" >&2; exit 1; }

packers=$(sed -n '/^# wheel/,$p' tools/requirements.txt | grep -v '^#')
if ! [ "$(cat "$tools/installed" 2>/dev/null)" = "$packers" ]; then
  rm -rf "$tools"
  /usr/bin/python3 -m venv "$tools" || die "could not create $tools; is the disk full?"
  "$tools/bin/python" -m pip install -q --disable-pip-version-check $packers >&2 ||
    die "pip could not install the packers; check the network"
  echo "$packers" >"$tools/installed"
fi
rm -rf "$folder/raw"
rm -f "$folder"/*.whl
"$tools/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation \
  --config-settings "cmake.define.WINNOW_BUILD=$build" --config-settings "build-dir=$folder/cmake" \
  --wheel-dir "$folder/raw" runtime/python >&2 || die "the wheel was not built"
wheel=$(ls "$folder"/raw/*.whl)
"$tools/bin/auditwheel" show "$wheel" | tr '\n' ' ' | grep -q "the following platform tag: \"$platform\"" ||
  die "the libraries of $wheel need more than $platform allows: $("$tools/bin/auditwheel" show "$wheel")"
"$tools/bin/python" -m wheel tags --remove --platform-tag "$platform" "$wheel" >/dev/null
mv "$folder"/raw/*.whl "$folder"
ls "$folder"/*.whl
