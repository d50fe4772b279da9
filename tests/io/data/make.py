# SPDX-License-Identifier: MIT
# make.py FOLDER: writes weights.bin, module.bin and legacy.bin with the torch at hand (those here: torch 1.13, and 2.15
# for weights_torch2.bin). The tests know the values.
import collections
import math
import sys

import torch


def count(*shape, dtype=torch.float32):
    return torch.arange(math.prod(shape)).reshape(shape).to(dtype)


folder = sys.argv[1]
images = count(2, 3, 2, 2)
weights = collections.OrderedDict(
    f32=images,
    f16=count(3, dtype=torch.float16) - 1,
    bf16=count(3, dtype=torch.bfloat16),
    f64=count(2, 2, dtype=torch.float64),
    i64=count(3, dtype=torch.int64) - 1,
    bool=torch.tensor([True, False]),
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    channels_last=images.contiguous(memory_format=torch.channels_last),
    transposed=count(2, 3).t(),
    sliced=count(4, 4)[1:3, ::2],
    shared=images[1],
    parameter=torch.nn.Parameter(count(2, 2)),
)
weights._metadata = {"": {"version": 1}}  # as the state_dict() of a module has
torch.save(weights, f"{folder}/weights.bin")
torch.save(weights, f"{folder}/legacy.bin", _use_new_zipfile_serialization=False)
torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2)), f"{folder}/module.bin")
