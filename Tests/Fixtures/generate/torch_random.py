"""Draws of torch's CPU generator: `s<seed>.n<size>`, two calls on one generator, and one video-shaped draw."""
import torch
from common import write

SEEDS = [0, 1, 42, 1234567, 2**40 + 3]
SIZES = [1, 2, 5, 15, 16, 17, 24, 100, 1000]

tensors = {}
for seed in SEEDS:
    for size in SIZES:
        tensors[f"s{seed}.n{size}"] = torch.randn(size, generator=torch.Generator().manual_seed(seed))
for seed, first, second in ((42, 5, 20), (42, 20, 5), (7, 16, 16), (7, 3, 3)):
    g = torch.Generator().manual_seed(seed)
    tensors[f"sequence.s{seed}.n{first}"] = torch.randn(first, generator=g)
    tensors[f"sequence.s{seed}.n{first}.then.n{second}"] = torch.randn(second, generator=g)
video = torch.randn(3, 8, 24, 24, generator=torch.Generator().manual_seed(42)).flatten()
tensors["s42.shape3x8x24x24.first64"], tensors["s42.shape3x8x24x24.last64"] = video[:64], video[-64:]
tensors["s42.shape3x8x24x24.sum"] = video.double().sum().reshape(1)
write("torch_random.safetensors", tensors)
