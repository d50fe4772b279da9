#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The peer of examples/train_fashion_mnist.cpp: the same network and the same recipe in plain PyTorch.

Reads a diffusers config.json (the trainer leaves one in its checkpoint, as unet/config.json), trains that U-Net
on Fashion-MNIST for a number of minutes and prints one JSON line: images/s, images seen, and the held-out
eps-MSE of the averaged weights. diffusers itself is not needed: unet.py has UNet2DModel's structure and parameter
names, and --self-test proves it on fixtures that diffusers computed.

Install on Debian 12 or Ubuntu 24.04 (torch runs on the reference BLAS, several times slower, unless an OpenBLAS
is there; the openmp one shares torch's threads), and the images:

    apt-get install python3-torch libopenblas0-openmp dataset-fashion-mnist

Run it with an allocator that keeps its memory, which a training loop on a CPU gains from:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456 \\
        /usr/bin/python3 train_fashion_mnist.py --config demo/checkpoint/unet/config.json --minutes 10
    ... --config CONFIG --weights demo/checkpoint/unet/diffusion_pytorch_model.safetensors   # measure, not train
    ... --self-test tests/golden/data                                                        # the same network?
"""
import argparse
import copy
import gzip
import json
import math
import os
import pathlib
import struct
import sys
import time
import zlib

import torch
import torch.nn.functional as F
from torch import nn

from unet import UNet, read_config


# ---- Files ----------------------------------------------------------------------------------------------------

def read_idx(folder, name):
    path = pathlib.Path(folder, name)
    if path.exists():
        data = path.read_bytes()
    elif path.with_name(name + ".gz").exists():
        data = gzip.decompress(path.with_name(name + ".gz").read_bytes())
    else:
        sys.exit(f"no {name} or {name}.gz in {folder}: apt-get install dataset-fashion-mnist, or give --data DIR")
    magic, n, height, width = struct.unpack(">4i", data[:16])
    if magic != 0x803 or len(data) != 16 + n * height * width:
        sys.exit(f"{path}: not an IDX file of images")
    return torch.frombuffer(bytearray(data[16:]), dtype=torch.uint8).reshape(n, 1, height, width)


def read_images(folder, name, size):
    """Bytes [N, 1, H, W], with a black margin where the network is larger than the images."""
    images = read_idx(folder, name)
    height, width = size if isinstance(size, list) else (size or images.shape[2], size or images.shape[3])
    dy, dx = height - images.shape[2], width - images.shape[3]
    if dy < 0 or dx < 0:
        sys.exit(f"sample_size {size} of the config is smaller than the images in {folder}")
    return F.pad(images, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    types = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32}

    def tensor(entry):
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(bytearray(data[8 + size + begin:8 + size + end]), dtype=types[entry["dtype"]])
        return values.reshape(entry["shape"])

    return {name: tensor(entry) for name, entry in header.items()}


def write_png(path, images, columns=8):
    """A grid of images [N, 1, H, W] in [-1, 1], without gaps."""
    n, _, height, width = images.shape
    pixels = ((images[:, 0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    grid = pixels.reshape(n // columns, columns, height, width).permute(0, 2, 1, 3).reshape(-1, columns * width)
    rows = F.pad(grid, (1, 0)).numpy().tobytes()  # filter 0 before every row

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", grid.shape[1], grid.shape[0], 8, 0, 0, 0, 0)
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) +
                                   chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


# ---- Diffusion ------------------------------------------------------------------------------------------------

def alpha_bars(schedule, steps=1000):
    if schedule == "linear":
        beta = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    else:
        s = torch.arange(steps + 1, dtype=torch.float64) / steps
        level = torch.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, 0)


def to_model(images):
    return images.float() / 127.5 - 1


def noised(x, noise, alpha_bar):
    a = alpha_bar[:, None, None, None]
    return a.sqrt().float() * x + (1 - a).sqrt().float() * noise


@torch.no_grad()
def held_out(model, images, args, batch=200):
    """Mean and standard error of the eps-MSE: every image once, every t of the evaluation schedule equally often.

    A network trained with another schedule is told the time at which that one is nearest in log SNR.
    """
    levels, own = alpha_bars(args.eval_schedule), alpha_bars(args.schedule)
    nearest = (levels.logit()[:, None] - own.clamp(1e-12, 1 - 1e-12).logit()[None]).abs().argmin(1)
    generator = torch.Generator().manual_seed(args.eval_seed)
    t = torch.randperm(len(images), generator=generator) % len(levels)
    losses = []
    for i in range(0, len(images), batch):
        x, at = to_model(images[i:i + batch]), t[i:i + batch]
        noise = torch.randn(x.shape, generator=generator)
        prediction = model(layout(noised(x, noise, levels[at]), args), nearest[at])
        losses.append(((prediction - noise) ** 2).mean((1, 2, 3)))
    losses = torch.cat(losses).double()
    return losses.mean().item(), (losses.std() / len(losses) ** 0.5).item()


@torch.no_grad()
def ddim(model, shape, args, steps=50):
    """DDIM, eta 0, trailing spacing, x0 clipped and eps left as it is."""
    levels = alpha_bars(args.schedule)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(args.seed))
    times = [round(len(levels) * (steps - i) / steps) - 1 for i in range(steps)]
    for t, p in zip(times, times[1:] + [-1]):
        a, b = levels[t].item(), levels[p].item() if p >= 0 else 1.0
        eps = model(layout(x, args), torch.full((shape[0],), t))
        x0 = ((x - math.sqrt(1 - a) * eps) / math.sqrt(a)).clamp(-1, 1)
        x = math.sqrt(b) * x0 + math.sqrt(1 - b) * eps
    return x


# ---- Training -------------------------------------------------------------------------------------------------

def layout(x, args):
    return x.contiguous(memory_format=torch.channels_last) if args.channels_last else x


def train(model, average, images, args):
    levels = alpha_bars(args.schedule)
    parameters, averages = list(model.parameters()), list(average.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.999), weight_decay=args.weight_decay,
                                  foreach=True)
    budget, step, order, recent = 60 * args.minutes, 0, torch.empty(0, dtype=torch.int64), []
    start = reported = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < budget:
        rate = args.final_lr + (args.lr - args.final_lr) * 0.5 * (1 + math.cos(math.pi * elapsed / budget))
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / max(args.warmup, 1))

        if len(order) < args.batch:
            order = torch.randperm(len(images))
        pick, order = order[:args.batch], order[args.batch:]
        x = to_model(images[pick])
        t, noise = torch.randint(len(levels), (args.batch,)), torch.randn(x.shape)
        prediction = model(layout(noised(x, noise, levels[t]), args), t)
        loss = F.mse_loss(prediction, layout(noise, args))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if args.grad_clip > 0:
            nn.utils.clip_grad_norm_(parameters, args.grad_clip)
        optimizer.step()

        decay = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, parameters, alpha=1 - decay)
        step += 1
        recent.append(loss.item())
        if time.perf_counter() - reported > args.report:
            reported = time.perf_counter()
            print(f"step {step}  loss {sum(recent) / len(recent):.4f}  "
                  f"{step * args.batch / (reported - start):.1f} images/s  {reported - start:.0f} of {budget:.0f} s",
                  file=sys.stderr, flush=True)
            recent = []
    return step, time.perf_counter() - start


# ---- Is it the same network? ----------------------------------------------------------------------------------

def self_test(folder):
    failures = models = 0

    def report(name, error, limit):
        nonlocal failures
        failures += not error <= limit
        print(f"{'PASS' if error <= limit else 'FAIL'}  {name}  error {error:.2e}  limit {limit:.0e}")

    def relative(a, b):
        return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()

    for path in sorted(pathlib.Path(folder).rglob("diffusion_pytorch_model.safetensors")):
        models += 1
        name, weights = path.parent.relative_to(folder), read_safetensors(path)
        model = UNet(read_config(path.with_name("config.json")))
        ours = {key: tuple(p.shape) for key, p in model.state_dict().items()}
        theirs = {key: tuple(p.shape) for key, p in weights.items()}
        failures += ours != theirs
        print(f"{'PASS' if ours == theirs else 'FAIL'}  {name}: names and shapes, {len(theirs)} tensors, "
              f"{sum(p.numel() for p in weights.values())} parameters")
        if ours != theirs:
            print("  differ in", sorted(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)))
            continue
        if not path.with_name("io.safetensors").exists():
            continue
        model.load_state_dict(weights)
        io = read_safetensors(path.with_name("io.safetensors"))
        x = io["x"].requires_grad_()
        out = model(x, io["timesteps"])
        report(f"{name}: out", relative(out, io["out"]), 5e-6)
        report(f"{name}: out_scalar_t_37",
               relative(model(x, torch.full((len(x),), 37)), io["out_scalar_t_37"]), 5e-6)
        loss = F.mse_loss(out, io["target"])
        loss.backward()
        report(f"{name}: loss", relative(loss, io["loss"]), 1e-6)
        report(f"{name}: grad_x", relative(x.grad, io["grad_x"]), 1e-5)
        norm = torch.stack([p.grad.double().norm() for p in model.parameters()]).norm()
        report(f"{name}: gradient norm", relative(norm, io["grad_norm"]), 3e-6)
    if models == 0:
        sys.exit(f"no diffusion_pytorch_model.safetensors under {folder}")
    return failures


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", help="diffusers config.json of the network")
    add("--data", default="/usr/share/datasets/fashion-mnist", help="folder of IDX files, gz or not")
    add("--minutes", type=float, default=10, help="of training; reading and measuring are not counted")
    add("--batch", type=int, default=32)
    add("--lr", type=float, default=1e-3)
    add("--final-lr", type=float, default=0.0, help="where the cosine decay over the minutes ends")
    add("--warmup", type=int, default=200, help="steps over which the rate rises linearly")
    add("--grad-clip", type=float, default=1.0, help="largest global norm, 0: none")
    add("--ema", type=float, default=0.999, help="decay; begins as (1 + n) / (10 + n)")
    add("--weight-decay", type=float, default=0.0)
    add("--schedule", choices=["linear", "cosine"], default="linear")
    add("--eval-schedule", choices=["linear", "cosine"], default="linear")
    add("--seed", type=int, default=0)
    add("--eval-seed", type=int, default=0)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--channels-last", action="store_true", help="run the network in NHWC")
    add("--report", type=float, default=20, help="seconds between progress lines")
    add("--samples", help="PNG to write: 64 samples, DDIM-50, averaged weights")
    add("--weights", help="measure this .safetensors of the network instead of training")
    add("--self-test", metavar="DIR", help="compare with the fixtures under DIR, and nothing else")
    args = parser.parse_args()
    if not args.self_test and not args.config:
        parser.error("--config is needed")
    return args


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    if args.self_test:
        sys.exit(1 if self_test(args.self_test) else 0)
    torch.manual_seed(args.seed)
    config = read_config(args.config)
    model = UNet(config)
    if args.weights:
        model.load_state_dict(read_safetensors(args.weights))
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    result = {"peer": f"torch {torch.__version__}", "threads": args.threads, "channels_last": args.channels_last,
              "parameters": sum(p.numel() for p in model.parameters()), "schedule": args.schedule}
    if not args.weights:
        images = read_images(args.data, "train-images-idx3-ubyte", config.sample_size)
        steps, seconds = train(model, average, images, args)
        result |= {"batch": args.batch, "steps": steps, "seconds": round(seconds, 1),
                   "images_seen": steps * args.batch, "images_per_second": round(steps * args.batch / seconds, 1)}
    images = read_images(args.data, "t10k-images-idx3-ubyte", config.sample_size)
    mean, error = held_out(average, images, args)
    result |= {"eval_schedule": args.eval_schedule, "held_out_mse": round(mean, 5),
               "held_out_standard_error": round(error, 5)}
    if args.samples:
        write_png(args.samples, ddim(average, (64, *images.shape[1:]), args))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
