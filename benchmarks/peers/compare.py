#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the programs in benchmarks/ with PyTorch: the same cases on the same cores in the same minutes.

    compare.py BUILD/benchmarks                                           # with Debian's python3-torch
    compare.py BUILD/benchmarks --peer /usr/bin/python3 --peer VENV/bin/python --json figures.json
    compare.py BUILD/benchmarks --filter 'train|forward' --batch 4 --threads 1

Both sides of a case stay alive and are timed in turn, ours, theirs, ours, theirs; the one that waits is stopped by a
signal, since PyTorch's threads spin while they have nothing to do. The ratio is the median over the pairs. Every peer
runs in the memory format that is faster for the case, with an allocator that keeps its memory.
"""
import argparse
import atexit
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PROGRAMS = ["unet", "conv2d", "group_norm", "attention", "linear", "adamw"]
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
CASES = re.compile(r"(forward|train|sampling)/\w+/b\d+|(conv2d|group_norm)\w*/b\d+/\w+/\d+"
                   r"|(linear|attention|adamw)[\w/]*")
CONVOLVES = "forward|train|sampling|conv2d"


class Contestant:
    """A process that times one case on request, and is stopped in between."""

    def __init__(self, label, command, environment):
        self.label, self.times, self.memory = label, [], 0
        self.process = subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        atexit.register(self.end)  # a stopped process would wait for ever
        _, *version = self.answer()
        self.version = " ".join(version)
        self.process.send_signal(signal.SIGSTOP)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.label} ended with status {self.process.wait()}")
        return line.split()

    def measure(self, seconds):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{seconds}\n")
        time, memory = self.answer()
        self.process.send_signal(signal.SIGSTOP)
        self.times.append(float(time))
        self.memory = int(memory) / 1024

    def end(self):
        self.process.kill()
        self.process.wait()


def ours(program, name, threads, convolution):
    served = name if convolution == "automatic" or not re.match(CONVOLVES, name) else f"{name}/{convolution}"
    return Contestant("ours", [program, "--serve", served], {"DDPM_THREADS": str(threads)})


def torch(python, name, threads, channels_last):
    command = [python, HERE / "torch_cases.py", name, "--threads", str(threads)]
    return Contestant(python + (" NHWC" if channels_last else " NCHW"),
                      command + (["--channels-last"] if channels_last else []),
                      ALLOCATOR | {"OMP_NUM_THREADS": str(threads)})


def faster_format(python, name, threads, seconds):
    """The peer in the memory format that took less time in three turns each."""
    formats = [False, True] if re.match(CONVOLVES + "|group_norm", name) else [False]
    candidates = [torch(python, name, threads, channels_last) for channels_last in formats]
    if len(candidates) > 1:
        for _ in range(3):
            for candidate in candidates:
                candidate.measure(seconds)
        candidates.sort(key=lambda c: min(c.times))
    for slower in candidates[1:]:
        slower.end()
    candidates[0].times = []
    return candidates[0]


def compare(program, name, python, threads, args):
    us, them = ours(program, name, threads, args.convolution), faster_format(python, name, threads, args.seconds)
    for _ in range(args.pairs):
        us.measure(args.seconds)
        them.measure(args.seconds)
    for contestant in (us, them):
        contestant.end()
    batch = re.search(r"/b(\d+)", name)
    per_second = int(batch[1]) if batch else 1
    ratios = sorted(theirs / own for own, theirs in zip(us.times, them.times))
    return {"name": f"{name}/t{threads}", "unit": "images/s" if batch else "calls/s",
            "ours": per_second / statistics.median(us.times), "peer": per_second / statistics.median(them.times),
            "ratio": statistics.median(ratios), "least_ratio": ratios[0], "largest_ratio": ratios[-1],
            "ours_peak_mib": us.memory, "peer_peak_mib": them.memory,
            "peer_is": f"torch {them.version} {them.label[-4:]}"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("programs", type=pathlib.Path, help="the folder of the built benchmarks")
    add("--peer", action="append", metavar="PYTHON", help="a Python that has torch; may be repeated")
    add("--threads", type=int, action="append", help="default: 1 and all")
    add("--batch", type=int, action="append", help="default: 1, 4, 16 (and 32 for training)")
    add("--convolution", choices=["automatic", "exact", "fast"], default="automatic", help="of our side")
    add("--filter", default="", metavar="REGEX", help="only the cases whose name holds it")
    add("--pairs", type=int, default=7)
    add("--seconds", type=float, default=0.3, help="of a turn, at least one call")
    add("--json", metavar="FILE", help="the figures as a list of {name, ours, peer, ratio}")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    args.peer = args.peer or ["/usr/bin/python3"]
    args.threads = args.threads or sorted({1, cores})
    args.batch = args.batch or [1, 4, 16, 32]
    return args


def cases(args):
    for family in PROGRAMS:
        program = args.programs.resolve() / f"{family}_benchmark"
        if not program.exists():
            sys.exit(f"compare.py: found no {program}, expected the folder of the programs that the preset bench builds")
        names = subprocess.run([program, "--benchmark_list_tests"], capture_output=True, text=True, check=True).stdout
        for name in names.split():
            name = name.removesuffix("/manual_time")
            batch = re.search(r"/b(\d+)", name)
            if CASES.fullmatch(name) and re.search(args.filter, name) and (not batch or int(batch[1]) in args.batch):
                yield program, name


def main():
    args = parse()
    results = []
    print("case | ours | peer | unit | ratio (least to largest) | peak MiB, ours : peer | peer")
    print("--- | ---: | ---: | --- | --- | --- | ---")
    for program, name in cases(args):
        for threads in args.threads:
            for python in args.peer:
                r = compare(program, name, python, threads, args)
                results.append(r)
                print(f"{r['name']} | {r['ours']:.4g} | {r['peer']:.4g} | {r['unit']} | **{r['ratio']:.2f}** "
                      f"({r['least_ratio']:.2f} to {r['largest_ratio']:.2f}) | {r['ours_peak_mib']:.0f} : "
                      f"{r['peer_peak_mib']:.0f} | {r['peer_is']}", flush=True)
                if args.json:
                    pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
