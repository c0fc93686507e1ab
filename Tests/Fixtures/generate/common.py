"""Shared by the generators: where fixtures go, how tensors are written."""
import os
import torch
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED = 20260


def generator(offset=0):
    return torch.Generator().manual_seed(SEED + offset)


def write(name, tensors, metadata=None):
    path = os.path.join(ROOT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path, metadata)
    os.chmod(path, 0o644)
    print(f"{name}: {os.path.getsize(path)} bytes, {len(tensors)} tensors")


def write_text(name, text):
    path = os.path.join(ROOT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
