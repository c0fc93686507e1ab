"""Writes the training clips of an adapter for `videolora train`: photos under camera paths, with and without a picture filter.

  python3 clips.py --photos DIR [DIR ...] [--sprites DIR] --filter oil --out DIR        pairs: `source`, and `frames` through the filter
  python3 clips.py --photos DIR [DIR ...] --camera pan_left --out DIR                   clips of the move

One file a size, uint8 [N, F, H, W, 3]; labels have caption and, for a move, `camera`.  Half of a move's clips are the opposite move
played backwards.  The same options write the same bytes.
"""
import argparse
import json
import os
import torch
from safetensors.torch import save_file
from filters import FILTERS
from render import FRAMES, Renderer
from vocabulary import CAPTION_LENGTH, OPPOSITE


def shown(frames):
    """[F or 1,3,H,W] in [0,1] -> uint8 [FRAMES,H,W,3]"""
    return (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).expand(FRAMES, -1, -1, -1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", nargs="+", required=True)
    p.add_argument("--sprites", help="cut-outs that stand in the pictures of pairs")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--filter", choices=sorted(FILTERS))
    what.add_argument("--camera", choices=sorted(OPPOSITE))
    p.add_argument("--out", required=True)
    p.add_argument("--count", type=int, default=96)
    p.add_argument("--seed", type=int, default=3)
    a = p.parse_args()
    torch.set_num_threads(1)
    recipe = "pairs" if a.filter else "move"
    renderer = Renderer(a.photos, a.sprites, a.seed, recipe)
    groups = {}
    for index in range(a.count):
        if a.camera:
            move = a.camera if index % 2 == 0 else OPPOSITE[a.camera]
            frames, words = renderer.clip(index, move)
            frames = frames if move == a.camera else frames.flip(0)
            words = [a.camera if w == move else w for w in words]
            tensors = {"frames": shown(frames)}
        else:
            frames, words = renderer.clip(index)
            tensors = {"frames": shown(FILTERS[a.filter](frames)), "source": shown(frames)}
        label = {"caption": " ".join(words[:CAPTION_LENGTH]), **({"camera": a.camera} if a.camera else {"style": a.filter})}
        groups.setdefault(tuple(tensors["frames"].shape[1:3]), []).append((tensors, label))
    os.makedirs(a.out, exist_ok=True)
    for (height, width), clips in sorted(groups.items()):
        together = {k: torch.stack([tensors[k] for tensors, _ in clips]) for k in clips[0][0]}
        save_file(together, f"{a.out}/{width}x{height}.safetensors", {"labels": json.dumps([label for _, label in clips])})


if __name__ == "__main__":
    main()
