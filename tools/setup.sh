#!/bin/sh
# Installs what building and running Winnow needs on Debian 12, and only what is missing; with the argument "test", what
# its tests need too (linters, abidiff, libFuzzer and clang's sanitizers, another LLVM, a browser, Slurm, pytest); with "docs" what makes the
# documentation site; with "torch" torch and transformers, for the tests of winnow.torch and winnow.hf. The last two are
# only from PyPI and no build needs them: they may run beside one.
# Every `make` target begins here, so a machine that has everything must pass through in well under a second.
# Entry: root, or a user for whom `sudo -n` works (needed only if a package is missing). Never asks a question.
# Exit: all packages installed, NumPy (and pytest) in .venv, NVRTC 13 either found on the machine or installed in .venv, with
# "torch" torch, transformers and accelerate in .venv-torch, with "docs" MkDocs in .venv-docs; otherwise one clear message and
# exit status 1.
set -eu
cd "$(dirname "$0")/.."

build_packages="g++ cmake ninja-build ccache pkg-config libmlir-22-dev mlir-22-tools llvm-22-dev clang-22 lld-22
  python3-dev libfmt-dev libzstd-dev zlib1g-dev libexpected-dev nlohmann-json3-dev libcli11-dev libgtest-dev libbenchmark-dev"
test_packages="abigail-tools clang-format-22 clang-tidy-22 libclang-rt-22-dev libllvm14 chromium-headless-shell slurmctld slurmd slurm-client munge"
python_packages="ca-certificates python3-venv"
lock_seconds=600 # for another apt

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# Names of the given packages that are not installed.
missing_packages() {
  installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p' | tr '\n' ' ')"
  for package in "$@"; do
    case "$installed" in *" $package "*) ;; *) printf '%s ' "$package" ;; esac
  done
}

# apt-get with the given words. Its own words go to stderr and into $log. Waits while another apt or dpkg has a lock, as on
# a fresh machine that updates itself: apt's option for that (DPkg::Lock::Timeout) is for dpkg's locks alone, and does not
# wait for those of the package lists and of the downloads.
run_apt() {
  waited=0
  while :; do
    { code=0
      $as_root env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q "$@" || code=$?
      echo "$code" >"$scratch/code"
    } 2>&1 | tee "$scratch/last" >&2
    cat "$scratch/last" >>"$log"
    code=$(cat "$scratch/code")
    [ "$code" -ne 0 ] || return 0
    grep -q -e 'Could not get lock' -e 'lock was locked by another process' "$scratch/last" || return "$code"
    holder=$(sed -n 's/.*held by \(process [0-9]* ([^)]*)\).*/\1/p' "$scratch/last" | head -n 1)
    [ "$waited" -lt "$lock_seconds" ] ||
      die "${holder:-another apt or dpkg} has been installing packages for over $((lock_seconds / 60)) minutes;" \
        "when it has ended, make again"
    [ "$waited" -gt 0 ] || say "waiting for ${holder:-another apt or dpkg}, which is installing packages"
    sleep 5
    waited=$((waited + 5))
  done
}

# What is wrong, by what apt has said.
explain_apt() {
  if grep -q 'dpkg was interrupted' "$log"; then
    die "an earlier installation was cut short. Run this, then make again: ${as_root:+sudo }dpkg --configure -a"
  elif grep -q -i -e 'No space left' -e 'enough free space' "$log"; then
    die "the disk is full; these packages need about 2 GB: $*"
  elif grep -q -e 'Could not resolve' -e 'Temporary failure' -e 'Could not connect' -e 'Connection failed' \
    -e 'Connection timed out' -e 'Failed to fetch' "$log"; then
    die "the package servers could not be reached (apt's lines above say which); check the network, a proxy and" \
      "/etc/apt/sources.list, then make again"
  elif grep -q -e 'Unable to locate package' -e 'no installation candidate' "$log"; then
    die "apt does not know all of: $*. LLVM 22 comes from Debian 12's bookworm-security archive; check that" \
      "/etc/apt/sources.list names it"
  fi
  die "apt-get could not install: $*. $(grep '^E: ' "$log" | tail -n 1)"
}

install_packages() {
  as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      die "these packages are missing, and this user is neither root nor able to use sudo without" \
        "a password. Run this once, then make again: sudo apt-get install -y --no-install-recommends $*"
    fi
    as_root="sudo -n"
  fi
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  log=$scratch/log
  say "installing: $*"
  run_apt update || explain_apt "$@"
  run_apt install -y --no-install-recommends "$@" || explain_apt "$@"
}

# An NVRTC 13 where the tools will look for it (the order of `winnow doctor`), .venv included.
find_nvrtc() {
  [ -z "${WINNOW_NVRTC:-}" ] || { echo "$WINNOW_NVRTC"; return; }
  old_ifs=$IFS
  IFS=:
  set -- ${LD_LIBRARY_PATH:-}
  IFS=$old_ifs
  for folder in "$@" "${CUDA_HOME:-/nowhere}/lib64" "${CUDA_PATH:-/nowhere}/lib64" /usr/local/cuda/lib64 \
    "${VIRTUAL_ENV:-/nowhere}"/lib/python3*/site-packages/nvidia/*/lib \
    .venv/lib/python3*/site-packages/nvidia/*/lib; do
    [ ! -e "$folder/libnvrtc.so.13" ] || { echo "$folder/libnvrtc.so.13"; return; }
  done
  { /sbin/ldconfig -p 2>/dev/null || true; } | sed -n 's/.*libnvrtc\.so\.13 .*=> //p' | head -n 1
}

# Whether an environment has a package, and installing into it what requirements.txt pins.
has_python_package() { ls -d "$1"/lib/python3*/site-packages/"$2" >/dev/null 2>&1; }
install_from_pypi() {
  environment=$1
  shift
  pinned=""
  for package in "$@"; do pinned="$pinned $(grep "^$package==" tools/requirements.txt)"; done
  say "installing into $environment:$pinned"
  [ -x "$environment/bin/python" ] || /usr/bin/python3 -m venv "$environment" ||
    die "could not create $environment; is the disk full?"
  "$environment/bin/python" -m pip install -q --disable-pip-version-check $pinned >&2 ||
    die "pip could not install$pinned into $environment; check the network and the disk's space$advice"
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
  die "this script knows Debian 12 only. Elsewhere install the equivalents of: $build_packages $test_packages" \
    "$python_packages, and build with cmake as tools/configure.sh does"
packages="$build_packages $python_packages"
[ "${1:-}" != test ] || packages="$packages $test_packages"
missing=$(missing_packages $packages)
[ -z "$missing" ] || install_packages $missing

advice=", or point WINNOW_NVRTC at a libnvrtc.so.13"
[ -n "$(find_nvrtc)" ] || install_from_pypi .venv nvidia-cuda-nvrtc
advice=""
has_python_package .venv numpy || install_from_pypi .venv numpy
[ "${1:-}" != test ] || has_python_package .venv pytest || install_from_pypi .venv pytest
case "${1:-}" in
docs)
  has_python_package .venv-docs mkdocstrings_handlers || install_from_pypi .venv-docs mkdocs-material mkdocstrings-python
  ;;
torch) # in an environment of its own, since it brings 5 GB and an NVRTC
  has_python_package .venv-torch torch || install_from_pypi .venv-torch torch numpy pytest
  has_python_package .venv-torch transformers || install_from_pypi .venv-torch transformers
  has_python_package .venv-torch accelerate || install_from_pypi .venv-torch accelerate
  ;;
esac
