#!/usr/bin/env bash
# bash benchmarks/gpu/run.sh [--build-only] [DIR]: on a machine with a GPU, CUDA, CMake and PyTorch, without network, in
# ten minutes: builds, tests the kernels on the GPU, looks at them with compute-sanitizer, measures them beside cuDNN,
# cuBLAS and PyTorch, and leaves a table and results.json in DIR (build/gpu). pack.sh is to be run before, where the
# libraries of the tests and benchmarks are installed. What fails is named at the end, and is the exit status.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build_only=no
if [ "${1-}" = --build-only ]; then
  build_only=yes
  shift
fi
out=${1:-build/gpu}
failed=()

# step NAME SECONDS COMMAND...: a command that may fail, or run out of time, without ending the others. All of them end
# within ten minutes.
step() {
  local name=$1 seconds=$2 left=$((570 - SECONDS))
  shift 2
  if [ $seconds -gt $left ]; then seconds=$((left > 10 ? left : 10)); fi
  echo "== $name"
  timeout "$seconds" "$@"
  local code=$?
  case $code in
    0) ;;
    77) echo "$name: not run" ;;
    124) failed+=("$name (out of time)") ;;
    *) failed+=("$name (exit status $code)") ;;
  esac
  return $code
}

build() {
  local architecture=$1
  if [ ! -f "$out/CMakeCache.txt" ] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  cmake --preset cuda -B "$out" -D CMAKE_CUDA_ARCHITECTURES="$architecture" -D DDPM_EXAMPLES=OFF \
    -D CMAKE_PREFIX_PATH="$PWD/benchmarks/gpu/pack" &&
    cmake --build "$out" --parallel "$(nproc)" --target native_tests golden_cuda gpu_benchmark
}

if card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) && [ -n "$card" ]; then
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  if [ "$architecture" = 90 ]; then architecture=90a; fi  # wgmma
elif [ $build_only = yes ]; then
  architecture=90a
else
  echo "no GPU found: not run"
  exit 77
fi
mkdir -p "$out"
export -f build
export out
step build 400 bash -c "build $architecture" || exit 1
if [ $build_only = yes ]; then exit 0; fi

commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
tests=("$out/tests/simt/native/native_tests" "~[executor]")
small=("~[executor]" "~*cuDNN*" "~*cuBLAS*")
step "kernel tests" 60 "${tests[@]}"
step "models against diffusers" 60 "$out/tests/golden_cuda" tests/golden/data
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "$tool" 60 compute-sanitizer --tool $tool --error-exitcode 1 "${tests[0]}" "${small[@]}"
  done
else
  echo "compute-sanitizer was not found: not run"
fi
step benchmarks 180 "$out/benchmarks/gpu/gpu_benchmark" --benchmark_min_time=0.02 \
  --benchmark_out="$out/kernels.json" --benchmark_out_format=json --benchmark_context="commit=$commit"
step PyTorch 570 python3 benchmarks/gpu/torch_baseline.py --out "$out/torch.json"
step table 20 python3 benchmarks/gpu/table.py "$out/kernels.json" "$out/torch.json" \
  --card "$card" --commit "$commit" --out "$out/results.json"

if [ ${#failed[@]} -eq 0 ]; then exit 0; fi
printf 'failed: %s\n' "${failed[@]}"
exit 1
