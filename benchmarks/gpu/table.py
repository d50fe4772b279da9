#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One table of what gpu_benchmark and torch_baseline.py measured, and one file.

    python3 table.py kernels.json torch.json --card CARD --commit COMMIT --out results.json
"""
import argparse
import json
import pathlib
import sys

COLUMNS = [  # of the table: heading, key, format
    ("ms", "median_ms", "{:.4f}"), ("GB/s", "GB/s", "{:.0f}"), ("TFLOP/s", "TFLOP/s", "{:.1f}"),
    ("% of roof", "roof_%", "{:.0f}"), ("baseline ms", "baseline_ms", "{:.4f}"), ("x baseline", "x_baseline", "{:.2f}")]


def read(path):
    """None where the program left no file, or was cut short in the middle of one."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return None


def rows_of(kernels, torch):
    """Ours, with the op of PyTorch as the baseline, or for steps the tuned one of those in bf16 and the eager one of the
    others."""
    peer = {row["name"]: row["median_ms"] for row in torch["benchmarks"]} if torch else {}
    rows = []
    for row in kernels["benchmarks"] if kernels else []:
        kept = {"name": row["name"].removesuffix("/manual_time")} | {key: row[key] for _, key, _ in COLUMNS if key in row}
        op, dtype = kept["name"].split("/")[:2]
        theirs = peer.get(kept["name"], peer.get(f"{op}/{'tuned' if dtype == 'bf16' else 'eager'}"))
        if theirs and torch["context"]["batch"] == int(kernels["context"]["batch"]):
            kept |= {"baseline_ms": theirs, "x_baseline": theirs / kept["median_ms"]}
        rows.append(kept)
    return rows + [{"name": f"PyTorch {name}", "median_ms": ms} for name, ms in peer.items()]


def table(rows):
    lines = [["", *(heading for heading, _, _ in COLUMNS)]]
    for row in rows:
        lines.append([row["name"], *(form.format(row[key]) if key in row else "" for _, key, form in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                               for i, (cell, w) in enumerate(zip(line, widths))).rstrip() for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", help="of gpu_benchmark")
    parser.add_argument("torch", help="of torch_baseline.py")
    parser.add_argument("--card", required=True, help="its name and its driver")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    kernels, torch = read(args.kernels), read(args.torch)
    if not kernels and not torch:
        sys.exit("table.py: found no measurements")
    rows = rows_of(kernels, torch)
    context = {"card": args.card, "commit": args.commit, "kernels": kernels and kernels["context"],
               "torch": torch and torch["context"]}
    pathlib.Path(args.out).write_text(json.dumps({"context": context, "rows": rows}, indent=1))
    print(f"{args.card}, commit {args.commit}\n{table(rows)}")


if __name__ == "__main__":
    main()
