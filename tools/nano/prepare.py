"""Renders clips and stores their TAEF2 latents, 16 clips a shard.  Interrupted runs continue where they stopped.

With --filter the same clips are stored once more as that picture filter shows them (folder latents-<filter>), for adapter.py.

  python3 prepare.py --photos DIR [DIR ...] --sprites DIR --weights DIR --work DIR [--items 3000] [--filter NAME] [--rank 0 --ranks 1]
"""
import argparse
import json
import os
import time
import torch
from safetensors.torch import save_file
from filters import FILTERS
from render import Renderer
from taef2 import TAEF2

SHARD = 16


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", nargs="+", required=True)
    p.add_argument("--sprites", required=True)
    p.add_argument("--weights", required=True, help="folder with taef2_encoder/decoder.safetensors")
    p.add_argument("--work", required=True)
    p.add_argument("--items", type=int, default=3000)
    p.add_argument("--filter", choices=sorted(FILTERS))
    p.add_argument("--minutes", type=float, default=1e9)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rank", type=int, default=0)
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    folder = os.path.join(a.work, f"latents-{a.filter}" if a.filter else "latents")
    os.makedirs(folder, exist_ok=True)
    renderer, coder = Renderer(a.photos, a.sprites, a.seed), TAEF2(a.weights, a.device)
    began = time.time()
    for shard in range(a.rank, (a.items + SHARD - 1) // SHARD, a.ranks):
        path = os.path.join(folder, f"{shard:05d}.safetensors")
        if os.path.exists(path):
            continue                                       # made by an earlier run
        if a.filter and not os.path.exists(os.path.join(a.work, "latents", os.path.basename(path))):
            continue
        if time.time() - began > a.minutes * 60:
            break
        tensors, captions = {}, {}
        for i in range(shard * SHARD, (shard + 1) * SHARD):
            frames, words = renderer.clip(i)
            if a.filter:
                frames = FILTERS[a.filter](frames).clamp(0, 1)
            tensors[str(i)] = coder.encode(frames).half().contiguous()
            captions[str(i)] = words
        save_file(tensors, path + ".tmp", {"captions": json.dumps(captions), "seed": str(a.seed)})
        os.replace(path + ".tmp", path)
        if shard % 10 == a.rank:
            print(f"shard {shard} after {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
