"""Learning curve: the loss of model directories on clips that were never trained on (Markdown).

  python3 curve.py MODEL … --clips CLIP.mp4 … [--size 160x96]

Loss of flow matching (mean square of v, empty caption) over 16 levels spread as in training, noise of its own in every frame and noise
that frames share as in video to video; the same noise for every model.  Last column: RMS distance to the source's normalised latents
after video to video at strength 0.5 with 8 steps (4 executed) and shared noise.  Models must normalise latents alike.
"""
import argparse
import os
import torch
import nano
from fastwan import FastWan
from sheet import read_clip
from taef2 import TAEF2

HERE = os.path.dirname(os.path.abspath(__file__))


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+")
    p.add_argument("--clips", nargs="+", required=True)
    p.add_argument("--size", default="160x96")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    coder = TAEF2(f"{HERE}/../../models/nano/vae")
    size = tuple(map(int, a.size.split("x")))
    z = torch.stack([coder.encode(read_clip(c, *size, 8)) for c in a.clips]).permute(0, 2, 1, 3, 4)
    print("| model | own noise | shared noise | distance at strength 0.5 |\n|---|---|---|---|")
    for folder in a.models:
        model, _, mean, std = nano.load(folder)
        forward = FastWan(model)
        x = (z - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
        words = torch.zeros(len(x), nano.CAPTION_LENGTH, nano.TEXT_WIDTH)
        row = []
        for shared in (False, True):
            g, total = torch.Generator().manual_seed(1), 0.0
            for k in range(16):
                s = torch.sigmoid(torch.special.ndtri(torch.tensor((k + .5) / 16)))
                n = nano.share_noise(torch.randn(x.shape, generator=g), s if shared else torch.ones(()), g)
                v = forward(nano.with_planes((1 - s) * x + s * n), (1000 * s).expand(len(x)), words)
                total += float((v - (n - x)).square().mean()) / 16
            row.append(total)
        g = torch.Generator().manual_seed(2)
        start = nano.share_noise(torch.randn(x.shape, generator=g), torch.tensor(.5), g)
        y = nano.sample(forward, start, words, 8, strength=.5, source=x)
        row.append(float((y - x).square().mean().sqrt()))
        print(f"| {folder} | " + " | ".join(f"{v:.3f}" for v in row) + " |", flush=True)


if __name__ == "__main__":
    main()
