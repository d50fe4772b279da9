# SPDX-License-Identifier: MIT
# Writes the seeds of the fuzz targets below corpus/; what was found later lies beside them under other names.
import gzip
import io
import json
import pathlib
import re
import struct
import zipfile
import zlib

here = pathlib.Path(__file__).parent


def put(target, name, data):
    folder = here / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed_{name}").write_bytes(data)


def compressed(data):
    return gzip.compress(data, mtime=0)


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


two = {
    "__metadata__": {"format": "pt"},
    "a": tensor("F32", [2, 1], 0, 8),
    "b": tensor("BF16", [], 8, 10),
    "none": tensor("I64", [0, 4], 10, 10),
}
put("safetensors", "two", safetensors(two, bytes(10)))
put("safetensors", "types", safetensors(
    {t: tensor(t, [1], i, i + 1) for i, t in enumerate(["U8", "I8", "BOOL"])}, bytes(3)))
put("safetensors", "overlap", safetensors({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, bytes(3)))
put("safetensors", "overflow", safetensors({"a": tensor("F64", [2**62, 4], 0, 0)}, b""))
put("safetensors", "deep", safetensors({"a": [[[[[[[[[[]]]]]]]]]]}, b""))

checkpoint = here.parent / "golden" / "data" / "checkpoint"
put("unet_config", "golden", (checkpoint / "unet" / "config.json").read_bytes())
put("unet_config", "empty", b"{}")
put("unet_config", "small", json.dumps({
    "sample_size": [16, 24], "block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": None, "num_class_embeds": 10,
    "resnet_time_scale_shift": "scale_shift", "freq_shift": 0.5, "dropout": 0.1}).encode())
put("scheduler_config", "golden", (checkpoint / "scheduler" / "scheduler_config.json").read_bytes())
put("scheduler_config", "ddim", json.dumps({
    "_class_name": "DDIMScheduler", "num_train_timesteps": 20, "beta_schedule": "scaled_linear",
    "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing",
    "set_alpha_to_one": False, "thresholding": True, "lambda_min_clipped": float("-inf")}).encode())
put("scheduler_config", "dpm", json.dumps({
    "_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 9, "solver_order": 1,
    "timestep_spacing": "trailing", "final_sigmas_type": "sigma_min", "beta_schedule": "squaredcos_cap_v2"}).encode())
put("scheduler_config", "betas", json.dumps({
    "num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3, 1.0], "steps_offset": 3}).encode())

weights = here.parent / "io" / "data" / "weights.bin"
put("torch_bin", "weights", weights.read_bytes())
with zipfile.ZipFile(weights) as archive:
    entries = {info.filename: archive.read(info) for info in archive.infolist()}
deflated = io.BytesIO()
with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in entries.items():
        archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
put("torch_bin", "deflated", deflated.getvalue())
put("torch_bin", "legacy", (here.parent / "io" / "data" / "legacy.bin").read_bytes())
put("pickle", "weights", next(data for name, data in entries.items() if name.endswith("data.pkl")))
put("pickle", "one", b"\x80\x02}X\x01\x00\x00\x00tctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x00K\x02K\x03\x86K\x01K\x02\x86\x89NtRs.")

images = struct.pack(">4I", 0x803, 2, 2, 3) + bytes(range(12))
labels = struct.pack(">2I", 0x801, 2) + b"\x07\x01"
for name, data in {"images": images, "labels": labels}.items():
    put("idx", name, data)
    put("idx", f"{name}_gz", compressed(data))
record = bytes([3]) + bytes(range(256)) * 12
put("cifar10", "record", record)
put("cifar10", "two_gz", compressed(record + bytes(3073)))


def png(width, height, depth, color, data):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", width, height, depth, color, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(12))) if color == 3 else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(data)) +
            chunk(b"IEND", b""))


put("png", "gray", png(3, 2, 8, 0, bytes(range(8))))
put("png", "rgba", png(2, 2, 8, 6, bytes(range(18))))
put("png", "rgb16", png(1, 2, 16, 2, bytes(range(14))))
put("png", "palette", png(4, 1, 2, 3, b"\x00\x1b"))
samples = (here.parent / "io" / "jpeg_samples.hpp").read_text()
for name, digits in re.findall(r'std::string (\w+) = bytes_of\(((?:\s*"[0-9a-f]+")+)\)', samples):
    put("jpeg", name, bytes.fromhex("".join(re.findall(r'"([0-9a-f]+)"', digits))))
