#!/usr/bin/env bash
# bash cmake/bootstrap.sh demo   installs what is missing, builds, trains for ten minutes and writes pictures to demo/
# bash cmake/bootstrap.sh test   installs what is missing, builds and runs the tests
# For Debian 12 and Ubuntu 24.04, as root or with sudo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'bootstrap: %s\n' "$*" >&2
  exit 1
}

# Prints the packages that are not installed. A compiler, make or cmake from elsewhere will do.
missing_packages() {
  if ! command -v c++ >/dev/null || ! command -v make >/dev/null; then echo build-essential; fi
  if ! command -v cmake >/dev/null; then echo cmake; fi
  local package state
  for package in catch2 nlohmann-json3-dev libpng-dev libjpeg-dev zlib1g-dev libcli11-dev dataset-fashion-mnist; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || state=missing
    if [ "$state" != installed ]; then echo "$package"; fi
  done
}

install_missing() {
  local packages
  mapfile -t packages < <(missing_packages)
  if [ ${#packages[@]} -eq 0 ]; then return; fi

  command -v apt-get >/dev/null ||
    fail "there is no apt-get here: install what Debian calls ${packages[*]}, then run cmake --preset $mode && cmake --build --preset $mode."
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "run this as root, or install first: ${packages[*]}."
    as_root=(sudo)
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
  local log
  log=$(mktemp)
  echo "Installing ${packages[*]}"
  # An update that fails in part is no reason to stop: whether the packages can be had is for install to say.
  "${apt[@]}" update </dev/null >"$log" 2>&1 || true
  if ! "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install ${packages[*]}: see its message above, or install them by hand and run this again."
  fi
  rm -f "$log"
}

# build PRESET DIRECTORY
build() {
  if [ ! -f "$2/CMakeCache.txt" ] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  cmake --preset "$1" || fail "cmake could not configure $2: see its message above."
  cmake --build "$2" --parallel "$(nproc)" || fail "the build in $2 failed: see the first error above."
}

run_demo() {
  build demo build/demo
  build/demo/examples/train_fashion_mnist --minutes 10 --out demo || fail "training stopped: see its message above."
  echo "The pictures: demo/samples.png, demo/denoising.png and demo/loss.png"
}

# Ends with the summary of ctest, and with its exit code.
run_test() {
  build test build
  exec ctest --test-dir build --output-on-failure --parallel "$(nproc)" -LE full
}

case "${1-} $#" in
  "demo 1" | "test 1") ;;
  *) fail "say what to do: bash cmake/bootstrap.sh demo, or bash cmake/bootstrap.sh test." ;;
esac
mode=$1
install_missing
"run_$mode"
