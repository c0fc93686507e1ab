"""Looks at a model: video to video on real clips, with and without an adapter, and text to video.

  python3 sheet.py --model models/nano --out sheet.png --clips A.mp4 B.mp4 [--adapter FILE --filter NAME] [--strength 0.5] [--size 256x144]
  python3 sheet.py --model models/nano --out t2v.png --prompts "photo mountain sky static" "photo flower grass pan_left"

Rows of the sheet, per clip: source; the autoencoder's own reconstruction; result without adapter; with it; the filter itself.
Prints, per clip: PSNR against the autoencoder's reconstruction, and the latent distance to the filtered source with the adapter
at 1 and at 0 (and the reduction).  Needs ffmpeg.
"""
import argparse
import json
import subprocess
import numpy as np
import torch
from PIL import Image
import nano
from adapter import load_adapter
from fastwan import FastWan
from filters import FILTERS
from taef2 import TAEF2


def read_clip(path, width, height, frames, start=1.0, fps=12):
    raw = subprocess.run(["ffmpeg", "-v", "error", "-ss", str(start), "-i", path, "-vf", f"fps={fps},scale={width}:{height}:flags=area",
                          "-frames:v", str(frames), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    return torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3).copy()).permute(0, 3, 1, 2).float() / 255


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--vae", help="folder of the autoencoder's weights (default: the model's)")
    p.add_argument("--out", required=True)
    p.add_argument("--clips", nargs="*", default=[])
    p.add_argument("--prompts", nargs="*", default=[])
    p.add_argument("--adapter")
    p.add_argument("--filter", choices=sorted(FILTERS))
    p.add_argument("--strength", type=float, default=.5)
    p.add_argument("--steps", type=int, default=nano.DEFAULTS["steps"])
    p.add_argument("--guidance", type=float, default=nano.DEFAULTS["guidance_scale"])
    p.add_argument("--size", default="256x144")
    p.add_argument("--shown", type=int, nargs="+", default=[0, 3, 7])
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    w, h = map(int, a.size.split("x"))
    model, table, mean, std = nano.load(a.model)
    coder = TAEF2(a.vae or f"{a.model}/vae")
    m, s = mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)
    if a.adapter:
        load_adapter(model, a.adapter)
    forward = FastWan(model)
    encode = lambda x: (coder.encode(x).permute(1, 0, 2, 3)[None] - m) / s
    pick = lambda x: x[[i for i in a.shown if i < len(x)]]                    # only the frames shown are decoded
    decode = lambda z: coder.decode(pick((z * s + m)[0].permute(1, 0, 2, 3)))
    blocks = []
    strip = lambda x: torch.cat(list(x), 2)
    for path in a.clips:
        x = read_clip(path, w, h, 8)
        z, noise = encode(x), torch.randn(1, 32, 8, h // 8, w // 8, generator=torch.Generator().manual_seed(a.seed))
        words = nano.encode_captions(table, [[]])
        own = coder.decode(coder.encode(pick(x)))
        shown, line = [pick(x), own], {"clip": path.split("/")[-1], "strength": a.strength}
        target = FILTERS[a.filter](x).clamp(0, 1) if a.filter else None
        distances = []
        for strength in ([0.0, 1.0] if a.adapter else [0.0]):
            forward.strength = {"style": strength}
            y = nano.sample(forward, noise, words, a.steps, 1.0, a.strength, z)
            shown.append(decode(y))
            if strength == 0:
                line["psnr"] = round(psnr(shown[-1], own), 2)
            if target is not None:
                distances.append(float((y - encode(target)).square().mean().sqrt()))
        if len(distances) == 2:
            line.update(off=round(distances[0], 3), on=round(distances[1], 3), smaller=f"{100 * (1 - distances[1] / distances[0]):.0f} %")
        if target is not None:
            shown.append(pick(target))
        print(json.dumps(line), flush=True)
        blocks.append(torch.cat([strip(r) for r in shown], 1))
    for i, prompt in enumerate(a.prompts):
        noise = torch.randn(1, 32, 8, h // 8, w // 8, generator=torch.Generator().manual_seed(a.seed + i))
        forward.strength = {"style": 1.0}
        blocks.append(strip(decode(nano.sample(forward, noise, nano.encode_captions(table, [prompt.split()]), a.steps, a.guidance))))
    sheet = torch.cat(blocks, 1)
    Image.fromarray((sheet.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()).save(a.out)


if __name__ == "__main__":
    main()
