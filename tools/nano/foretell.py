"""How near can a style adapter come?  What a linear map foretells of a filter's result from the noised source, in seconds, before
anything is trained (Markdown).

  python3 foretell.py --photos DIR --clips CLIP.mp4 … [--filters oil lineart …] [--strength 0.5] [--size 160x96]

Ridge regression from 3x3 places of noised, normalised latents (and whether row and column are even: patterns keep their place in the
model's patches) to the latents of the filtered picture, fitted on rendered pictures.  On the middle frame of each clip the map's latents
are decoded, encoded and compared with the filter's as results.py compares an adapter's frames; printed is by how much that is nearer
than the source itself.  The noise is the frame's own: frames that share theirs tell no more than one.
"""
import argparse
import os
import torch
import torch.nn.functional as F
from filters import FILTERS
from render import Renderer
from results import latent_statistics
from sheet import read_clip
from taef2 import TAEF2

HERE = os.path.dirname(os.path.abspath(__file__))


def features(x):
    """[n,32,h,w] -> [n h w, 32 * 9 + 4]"""
    n, _, h, w = x.shape
    columns, rows = (torch.arange(w) % 2).float().view(1, 1, 1, w), (torch.arange(h) % 2).float().view(1, 1, h, 1)
    places = torch.cat([v.expand(n, 1, h, w) for v in (columns, rows, columns * rows, torch.ones(1, 1, 1, 1))], 1)
    return torch.cat([F.unfold(x, 3, padding=1).view(n, -1, h, w), places], 1).permute(0, 2, 3, 1).flatten(0, 2)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", nargs="+", required=True)
    p.add_argument("--clips", nargs="+", required=True)
    p.add_argument("--filters", nargs="+", choices=sorted(FILTERS), default=sorted(FILTERS))
    p.add_argument("--strength", type=float, default=.5)
    p.add_argument("--size", default="160x96")
    p.add_argument("--pictures", type=int, default=96)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    mean, std = latent_statistics()
    coder, renderer = TAEF2(f"{HERE}/../../models/nano/vae"), Renderer(a.photos, None, 3, "pairs")
    encode = lambda x: (coder.encode(x) - mean) / std
    decode = lambda z: coder.decode(z * std + mean).clamp(0, 1)
    distance = lambda x, y: float((x - y).square().mean().sqrt())
    pictures = [renderer.clip(i)[0][:1] for i in range(a.pictures)]
    shown = [read_clip(c, *map(int, a.size.split("x")), 5)[-1:] for c in a.clips]
    latents, sources = [encode(x) for x in pictures], [encode(x) for x in shown]
    print("| filter | nearer, worst clip | mean | every clip |\n|---|---|---|---|")
    for name in a.filters:
        filtered, g = (lambda x: encode(FILTERS[name](x).clamp(0, 1))), torch.Generator().manual_seed(1)
        noised = lambda z: (1 - a.strength) * z + a.strength * torch.randn(z.shape, generator=g)
        products = targets = 0
        for x, z in zip(pictures, latents):
            wanted = filtered(x).permute(0, 2, 3, 1).flatten(0, 2)
            for _ in range(2):
                f = features(noised(z))
                products, targets = products + f.T @ f, targets + f.T @ wanted
        weights = torch.linalg.solve(products + 30 * torch.eye(len(products)), targets)
        nearer = []
        for x, z in zip(shown, sources):
            wanted = filtered(x)
            foretold = (features(noised(z)) @ weights).view(1, *z.shape[2:], -1).permute(0, 3, 1, 2)
            nearer.append(100 * (1 - distance(encode(decode(foretold)), wanted) / distance(z, wanted)))
        print(f"| {name} | {min(nearer):.0f} % | {sum(nearer) / len(nearer):.0f} % | {', '.join(f'{v:.0f}' for v in nearer)} |", flush=True)


if __name__ == "__main__":
    main()
