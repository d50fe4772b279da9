#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes kernels/README.md: what each family of kernels computes, how, and at what cost.

The words are those at the top of the headers. Registers and spills are ptxas's, from compiling tests/simt/*_kernels.cpp
of each family; shared memory and traffic are what the host executor counts when the program simt_report runs each op
once. With --check, nothing is compiled or written: the words in README.md must be those of the headers, for every
family.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "kernels" / "README.md"
FAMILIES = sorted(
    path for path in (ROOT / "kernels/ddpm/kernels").glob("*.cuh") if path.name not in ("launch.cuh", "pack.cuh"))
ARCHITECTURES = ("80", "90a")

INTRODUCTION = """\
# Kernels

Made by `cmake --build build --target kernels_readme`; the words come from the tops of the files. The figures are counted
by ptxas and by the host executor of `tests/simt`, **not measured on a GPU**.
"""


def header(path):
    """The comment at the top of a file, without its first line, which is the licence."""
    lines = path.read_text().splitlines()[1:]
    return [line[3:] for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("//"))]]


def cell(text):
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text):
    return cell(text)[:1].upper() + cell(text)[1:]


def code(lines):
    return "<br>".join(f"`{cell(line)}`" for line in lines)


def math_of(family):
    """The formulas of the op, or its first sentences where it has none."""
    ops = re.search(r"Math and parameters: (ddpm/ops/\w+\.hpp)", " ".join(header(family)))
    if not ops:
        sys.exit(f"readme: {family.name} does not say 'Math and parameters: ddpm/ops/....hpp'")
    lines = header(ROOT / "include" / ops[1])
    formulas = [line for line in lines if line.startswith("  ")]
    if formulas:
        return code(formulas)
    return cell(" ".join(lines).split("  ")[0])


def words(family):
    """Its row in the first table."""
    text = " ".join(header(family))
    title, _, rest = text.partition("Math and parameters:")
    algorithm, _, cost = rest.partition("Cost:")
    cost, _, bound = cost.partition("Bound:")
    algorithm = algorithm.partition("Algorithm:")[2] or title
    name = f"[{family.stem}](ddpm/kernels/{family.name})"
    return f"| {name} | {math_of(family)} | {sentence(algorithm)} | {sentence(cost)} | {cell(bound)} |"


def kernels_of(family):
    """In the order of the file."""
    return re.findall(r"__global__[^;{]*?\b(\w+_kernel)\(", family.read_text())


def compile_natively(nvcc):
    """The most registers and spilled bytes over the instances of each kernel, by kernel and architecture."""
    figures = collections.defaultdict(lambda: [0, 0])
    codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    folders = [f"-I{ROOT}/include", f"-I{ROOT}/kernels"]
    for source in sorted((ROOT / "tests/simt").glob("*_kernels.cpp")):
        if not any(f"<ddpm/kernels/{family.name}>" in source.read_text() for family in FAMILIES):
            continue
        output = subprocess.run([nvcc, "-std=c++20", *folders, *codes, "-Xptxas=-v", "-x", "cu", "-c", str(source),
                                 "-o", os.devnull], check=True, capture_output=True, text=True).stderr
        entry = None
        for line in output.splitlines():
            if match := re.search(r"entry function '_ZN4ddpm7kernels(\d+)(\w+)' for 'sm_(\w+)'", line):
                entry = figures[match[2][: int(match[1])], match[3]]
            elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
                entry[1] = max(entry[1], int(match[1]) + int(match[2]))
            elif match := re.search(r"Used (\d+) registers", line):
                entry[0] = max(entry[0], int(match[1]))
    return figures


def run_report(program):
    """The counters of each op, and the most shared memory that each kernel was started with."""
    result = subprocess.run([program], check=True, capture_output=True, text=True, env={**os.environ, "DDPM_DEBUG": "log"})
    shared = collections.defaultdict(int)
    for kernel, size in re.findall(r"(\w+_kernel)\b.*  shared (\d+)", result.stderr):
        shared[kernel] = max(shared[kernel], int(size))
    return [json.loads(line) for line in result.stdout.splitlines()], shared


def table(columns, rows):
    return "\n".join(["", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns), *rows, ""])


def text(nvcc, program):
    counters, shared = run_report(program)
    figures = compile_natively(nvcc)
    version = re.search(r"release (\S+),", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    kernels = []
    for family in FAMILIES:
        for kernel in kernels_of(family):
            registers = " / ".join(str(figures[kernel, number][0]) for number in ARCHITECTURES)
            spills = " / ".join(str(figures[kernel, number][1]) for number in ARCHITECTURES)
            size = shared[kernel] if kernel in shared else "not run"
            kernels.append(f"| {family.stem} | `{kernel}` | {registers} | {size} | {spills} |")
    ops = []
    for row in sorted(counters, key=lambda row: row["family"]):
        conflicts = f"{row['bank_conflicts']:.0f} of {row['wavefronts']:.0f}" if row["wavefronts"] else "0"
        ops.append(f"| {row['family']} | {row['op']} | {row['sectors_per_load']:.1f} | {row['sectors_per_store']:.1f} "
                   f"| {conflicts} | {row['bytes'] / row['least_bytes']:.3f} |")
    return (INTRODUCTION + table(["family", "math", "algorithm", "cost", "bound"], map(words, FAMILIES)) + f"""
## Registers, shared memory, spills

The most over all instances of a kernel, by ptxas of CUDA {version} for {' and '.join('sm_' + a for a in ARCHITECTURES)}; bytes
of shared memory as launched below.
""" + table(["family", "kernel", "registers", "shared memory", "bytes spilled"], kernels) + """
## Memory traffic

Of one run of each op, on two images of 16 x 16 x 64. A request is one instruction of a warp; a fully coalesced one has 4
sectors for each 128 bytes, so 16 where each lane moves 16 bytes, 8 where it moves 8, and 1 where all lanes read one
word. Bank conflicts are turns of the banks beyond the least, of all turns. Bytes are those between L2 and the blocks,
with what each block has touched kept in its L1, as a multiple of the least: every input read once, every output written
once.
""" + table(["family", "op", "sectors per load", "sectors per store", "bank conflicts", "bytes / least"], ops))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--report", help="the program simt_report")
    arguments = parser.parse_args()
    if not arguments.check:
        README.write_text(text(arguments.nvcc, arguments.report))
        return
    lines = README.read_text().splitlines()
    stale = [family.name for family in FAMILIES if words(family) not in lines]
    if stale:
        sys.exit(f"readme: {', '.join(stale)}: not as in README.md; build the target kernels_readme")


if __name__ == "__main__":
    main()
