#!/usr/bin/env bash
# bash benchmarks/gpu/pack.sh: gathers what run.sh needs and a GPU machine may lack, in benchmarks/gpu/pack/, which git
# ignores. For Debian 12 and Ubuntu 24.04, where the packages are installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

packages=(catch2 libbenchmark-dev nlohmann-json3-dev zlib1g-dev libpng-dev libjpeg-dev)
# The packages that hold the files of those above: of the JPEG library, and of the shared library of Google Benchmark.
depended=$(dpkg-query --show --showformat='${Depends}, ' "${packages[@]}" | grep -oE 'libbenchmark1[a-z0-9.]*|libjpeg[a-z0-9-]*-dev') || {
  echo "pack.sh: install first: ${packages[*]}" >&2
  exit 1
}

rm -rf pack
mkdir pack
dpkg -L "${packages[@]}" $depended | while read -r file; do
  case $file in
    */libbenchmark.so*) ;;  # the one library that is not there as a static one
    *.so* | *.pc | *.1) continue ;;
    /usr/include/* | /usr/lib/* | /usr/share/cmake/*) ;;
    *) continue ;;
  esac
  if [ -d "$file" ]; then continue; fi
  to=pack/${file#/usr/}
  to=${to/#pack\/include\/*-linux-gnu\//pack/include/}
  mkdir -p "$(dirname "$to")"
  cp -L "$file" "$to"
done
du -sh pack
