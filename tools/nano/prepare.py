"""Renders clips and stores their TAEF2 latents, 16 clips a shard.  Interrupted runs continue where they stopped.

With --filters the same clips are stored once more as those picture filters show them (folders latents-<filter>), for adapter.py;
camera clips go to latents-camera.

  python3 prepare.py --photos DIR [DIR ...] --sprites DIR --weights DIR --work DIR [--items 3000] [--filters NAME …] [--rank 0 --ranks 1]
"""
import argparse
import json
import os
import time
import torch
from safetensors.torch import save_file
from filters import FILTERS
from render import RECIPES, Renderer
from taef2 import TAEF2

SHARD = 16


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", nargs="+", required=True)
    p.add_argument("--sprites", required=True)
    p.add_argument("--weights", required=True, help="folder with taef2_encoder/decoder.safetensors")
    p.add_argument("--work", required=True)
    p.add_argument("--items", type=int, default=3000)
    p.add_argument("--filters", nargs="*", choices=sorted(FILTERS), default=[])
    p.add_argument("--recipe", choices=sorted(RECIPES), default="base")
    p.add_argument("--first", type=int, default=0, help="number of the first shard")
    p.add_argument("--minutes", type=float, default=1e9)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rank", type=int, default=0)
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    plain = "latents-camera" if a.recipe == "camera" else "latents"
    folders = {name: os.path.join(a.work, f"latents-{name}" if name else plain) for name in [""] + a.filters}
    for folder in folders.values():
        os.makedirs(folder, exist_ok=True)
    renderer, coder = Renderer(a.photos, a.sprites, a.seed, a.recipe), TAEF2(a.weights, a.device)
    began = time.time()
    for shard in range(a.first + a.rank, a.first + (a.items + SHARD - 1) // SHARD, a.ranks):
        file = f"{shard:05d}.safetensors"
        missing = [name for name in folders if not os.path.exists(os.path.join(folders[name], file))]
        if not missing:
            continue                                       # made by an earlier run
        if time.time() - began > a.minutes * 60:
            break
        tensors, captions = {name: {} for name in missing}, {}
        for i in range(shard * SHARD, (shard + 1) * SHARD):
            frames, words = renderer.clip(i)
            captions[str(i)] = words
            for name in missing:
                shown = FILTERS[name](frames).clamp(0, 1) if name else frames
                tensors[name][str(i)] = coder.encode(shown).half().contiguous()
        for name in missing:
            path = os.path.join(folders[name], file)
            save_file(tensors[name], path + ".tmp", {"captions": json.dumps(captions), "seed": str(a.seed)})
            os.replace(path + ".tmp", path)
        print(f"shard {shard} after {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
