"""Looks for memorised pictures: how near does text to video come to a crop of the training clips?

  python3 nearest.py --model models/nano --work DIR [--sheet nearest.png]

Every sampled clip (first frame, 64x64, prompts of the vocabulary) is correlated with every 64x64 place of every training frame, in
normalised latents with each crop's own mean per channel taken out.  The same is done with crops of training clips from other photos
(each against all clips that show another photo's words), which says what correlation unrelated pictures reach.  1 is a copy.
"""
import argparse
import glob
import json
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
import nano
from fastwan import FastWan
from taef2 import TAEF2
from vocabulary import SCENES

N = 8


def centred(q):
    q = q - q.mean((2, 3), keepdim=True)
    return q / q.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def best(queries, frame):
    """highest normalised correlation of each query [n,32,8,8] anywhere in a frame [32,h,w], and where"""
    x = frame[None]
    dot = F.conv2d(x, queries)[0]                                     # queries are centred, so the crop's mean drops out
    mean = F.avg_pool2d(x, N, 1)
    energy = (F.avg_pool2d(x * x, N, 1) - mean * mean).sum(1)[0] * N * N
    c = dot / energy.clamp(min=1e-3).sqrt()
    value, at = c.flatten(1).max(1)
    return value, torch.stack([at // c.shape[2], at % c.shape[2]], 1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--count", type=int, default=48)
    p.add_argument("--sheet")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    model, table, mean, std = nano.load(a.model)
    m, s = mean.view(-1, 1, 1), std.view(-1, 1, 1)
    words = nano.encode_captions(table, [["photo", SCENES[k % len(SCENES)], "static"] for k in range(a.count)])
    noise = torch.randn(a.count, 32, 8, N, N, generator=torch.Generator().manual_seed(5))
    made = nano.sample(FastWan(model), noise, words, 8, 2.0)[:, :, 0]
    frames, captions = [], []
    for path in sorted(glob.glob(f"{a.work}/latents/*.safetensors")):
        with safe_open(path, "pt") as f:
            c = json.loads(f.metadata()["captions"])
            for k in f.keys():
                frames.append((f.get_tensor(k)[0].float() - m) / s)
                captions.append(tuple(c[k][1:3]))
    g = torch.Generator().manual_seed(6)
    real, own = [], []
    for i in torch.randperm(len(frames), generator=g)[:a.count].tolist():
        y, x = ((torch.rand((), generator=g) * (n - N + 1)).int() for n in frames[i].shape[1:])
        real.append(frames[i][:, y:y + N, x:x + N]), own.append(captions[i])
    queries = centred(torch.cat([made, torch.stack(real)]))
    top = torch.full((2 * a.count,), -1.0)
    where = [None] * (2 * a.count)
    for frame, caption in zip(frames, captions):
        value, at = best(queries, frame)
        for i, other in enumerate(own):
            if other == caption:
                value[a.count + i] = -1                               # perhaps the same photo
        for i in (value > top).nonzero().flatten().tolist():
            top[i], where[i] = value[i], frame[:, at[i, 0]:at[i, 0] + N, at[i, 1]:at[i, 1] + N]
    for name, v in (("generated", top[:a.count]), ("crops of other photos", top[a.count:])):
        print(json.dumps({"what": name, "median": round(float(v.median()), 3), "highest": round(float(v.max()), 3), "n": len(v)}))
    if a.sheet:
        coder = TAEF2(f"{a.model}/vae")
        chosen = top[:a.count].argsort(descending=True)[:12].tolist()
        pictures = coder.decode(torch.stack([made[i] for i in chosen] + [where[i] for i in chosen]) * s + m)
        rows = [torch.cat(list(pictures[k:k + 12]), 2) for k in (0, 12)]
        Image.fromarray((torch.cat(rows, 1).permute(1, 2, 0) * 255).round().byte().numpy()).save(a.sheet)


if __name__ == "__main__":
    main()
