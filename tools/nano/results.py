"""Prints the tables of the builtin model for docs/RESULTS.md (Markdown), rendered by the command line tool itself.

  python3 results.py --videolora PATH --clips CLIP.mp4 … [--held-out PHOTO.jpg …] [--judge DIR] [--size 160x96] [--seeds 64]

Styles (transform strength 0.5, empty prompt): distance (RMS over normalised TAEF2 latents) of the output to the filter applied to
the source, adapter at 0, 0.25, 0.5, 0.75, 1.  Camera (text to video, empty prompt, from noise): share of seeds whose amplitude on the
move's axis is the largest one and above 0.3 of full scale, by the judge kit's closed-form estimator at full size.  Fidelity: PSNR at
transform strength 0.3 against the autoencoder's own reconstruction.  Flicker: mean change between frames over the source's, on the
clip named by --still.  --held-out photos are shown under camera paths.  Needs ffmpeg; --judge is the folder of camera.py.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from filters import FILTERS
from render import Renderer
from sheet import psnr, read_clip
from taef2 import TAEF2
from vocabulary import OPPOSITE

STRENGTHS = [0, .25, .5, .75, 1]
STYLES = ["oil", "lineart", "halftone", "mosaic", "duotone", "poster"]
HERE = os.path.dirname(os.path.abspath(__file__))


def to_bytes(x):
    """[F,3,H,W] in [0,1] -> uint8 [F,H,W,3]"""
    return (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous()


def to_float(x):
    return x.permute(0, 3, 1, 2).float() / 255


def spearman(a, b):
    rank = lambda v: np.argsort(np.argsort(v)).astype(float)
    return float(np.corrcoef(rank(a), rank(b))[0, 1])


class Tool:
    """The command line tool: clips in, clips out."""

    def __init__(self, path, model, folder, threads):
        self.path, self.model, self.folder, self.threads = path, model, folder, threads

    def run(self, verb, *words):
        out = f"{self.folder}/out.safetensors"
        if os.path.exists(out):
            os.remove(out)
        subprocess.run([self.path, verb, "--model", self.model, "--threads", str(self.threads), "--output", out, *words], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return load_file(out)["frames"]

    def transform(self, clips, strength, adapter=None, at=1.0):
        """clips [N,F,H,W,3] uint8 -> the same shape"""
        save_file({"frames": clips}, f"{self.folder}/in.safetensors")
        more = ["--lora", f"{adapter}={at}"] if adapter else []
        return self.run("transform", "--input", f"{self.folder}/in.safetensors", "--strength", str(strength), "--seed", "1", *more)

    def generate(self, count, size, adapter=None, prompt=""):
        more = ["--lora", f"{adapter}=1"] if adapter else []
        return self.run("generate", "--count", str(count), "--prompt", prompt, "--width", str(size), "--height", str(size), "--seed",
                        "1000", *more)


def adapter_path(folder, name):
    """A file of --adapters, or the builtin one; None where there is none."""
    if folder is None:
        folder, name_ = f"{HERE}/../../models/adapters", f"builtin:{name}"
        return name_ if os.path.exists(f"{folder}/{name}.safetensors") else None
    path = f"{folder}/{name}.safetensors"
    return path if os.path.exists(path) else None


def labelled(name, folder, a):
    """With several folders of adapters, which one it is."""
    return name if len(a.adapters) == 1 else f"{name}, {os.path.basename((folder or 'builtin').rstrip('/'))}"


def styles(a, tool, coder, clips, names):
    mean, std = latent_statistics()
    encode = lambda x: (coder.encode(x[::2]) - mean) / std                       # every other frame
    distance = lambda x, y: float((encode(x) - y).square().mean().sqrt())
    print("\n### Styles: distance to the filtered source\n")
    print("| style | clip | " + " | ".join(f"{s:g}" for s in a.strengths) + " | smaller at the last | Spearman |")
    print("|---" * (len(a.strengths) + 4) + "|")
    plain, summary, sheet = tool.transform(clips, .5), [], []
    for style, folder in [(s, f) for s in a.styles for f in a.adapters]:
        adapter = adapter_path(folder, style)
        if adapter is None:
            print(f"| {style} | missing |")
            continue
        targets = [encode(FILTERS[style](to_float(c)).clamp(0, 1)) for c in clips]
        style = labelled(style, folder, a)
        table = [[distance(to_float(c), t) for c, t in zip(plain, targets)]]
        for s in a.strengths[1:]:
            out = tool.transform(clips, .5, adapter, s)
            table.append([distance(to_float(c), t) for c, t in zip(out, targets)])
        middle = clips.shape[1] // 2
        for c, before, after in list(zip(clips, plain, out))[:a.sheet_clips]:
            wanted = to_bytes(FILTERS[style.split(",")[0]](to_float(c[middle:middle + 1])))[0]
            sheet.append(torch.cat([c[middle], before[middle], after[middle], wanted], 1))
        for name, row in zip(names, zip(*table)):
            less, falls = 1 - row[-1] / row[0], -spearman(a.strengths, row)
            summary.append((style, less, falls))
            print(f"| {style} | {name} | " + " | ".join(f"{v:.2f}" for v in row) + f" | {100 * less:.0f} % | {falls:.1f} |", flush=True)
    if a.sheet:
        rows = [torch.cat(sheet[k:k + a.sheet_clips], 1) for k in range(0, len(sheet), a.sheet_clips)]
        Image.fromarray(torch.cat(rows).numpy()).save(a.sheet, quality=85)
    print("\n| style | smaller, worst clip | mean | clips at 30 % or more | Spearman, worst |\n|---|---|---|---|---|")
    for style in dict.fromkeys(s for s, _, _ in summary):
        less = [v for s, v, _ in summary if s == style]
        falls = min(v for s, _, v in summary if s == style)
        print(f"| {style} | {100 * min(less):.0f} % | {100 * sum(less) / len(less):.0f} % | {sum(v >= .3 for v in less)} of {len(less)} | {falls:.1f} |")


def camera(a, tool):
    sys.path.insert(0, a.judge)
    import camera as judge
    axes = {"pan_left": (0, 1), "pan_right": (0, -1), "tilt_up": (1, 1), "tilt_down": (1, -1), "zoom_in": (2, 1), "zoom_out": (2, -1)}
    print(f"\n### Camera: text to video, empty prompt, {a.seeds} seeds, {a.camera_size}x{a.camera_size}\n")
    print("| move | right without | right with the adapter | mean amplitude with it |\n|---|---|---|---|")
    measure = lambda frames: judge.amplitudes(judge.camera(torch.stack([to_float(c).permute(1, 0, 2, 3) * 2 - 1 for c in frames]))["cam"],
                                              frames.shape[2])
    without = measure(tool.generate(a.seeds, a.camera_size))
    for move, folder in [(m, f) for m in a.moves for f in a.adapters]:
        axis, sign = axes[move]
        right = lambda am: float(((am[:, axis] * sign > .3) & (am.abs().argmax(1) == axis)).float().mean())
        adapter = adapter_path(folder, move)
        move = labelled(move, folder, a)
        if adapter is None:
            print(f"| {move} | {100 * right(without):.0f} % | missing | |")
            continue
        am = measure(tool.generate(a.seeds, a.camera_size, adapter))
        print(f"| {move} | {100 * right(without):.0f} % | {100 * right(am):.0f} % | {float((am[:, axis] * sign).mean()):.2f} |", flush=True)


def fidelity(a, tool, coder, clips, names):
    out = tool.transform(clips, .3)
    print("\n### Fidelity: PSNR at strength 0.3 against the autoencoder's reconstruction, flicker over the source's\n")
    print("| clip | PSNR | flicker |\n|---|---|---|")
    change = lambda x: float((x[1:] - x[:-1]).abs().mean())
    for name, c, y in zip(names, clips, out):
        x, y = to_float(c), to_float(y)
        still = f"{change(y) / change(x):.2f}" if name == a.still else ""
        print(f"| {name} | {psnr(y, coder.decode(coder.encode(x))):.1f} dB | {still} |", flush=True)


def latent_statistics():
    with open(f"{HERE}/../../models/nano/vae/config.json") as f:
        c = json.load(f)
    return torch.tensor(c["latents_mean"]).view(1, -1, 1, 1), torch.tensor(c["latents_std"]).view(1, -1, 1, 1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--videolora", required=True)
    p.add_argument("--model", default="builtin:nano")
    p.add_argument("--adapters", nargs="+", default=[None], help="folders of adapter files, side by side (default: the builtin ones)")
    p.add_argument("--clips", nargs="*", default=[])
    p.add_argument("--held-out", nargs="*", default=[])
    p.add_argument("--still", default="bottles", help="the clip whose flicker counts")
    p.add_argument("--judge", help="folder of the judge kit, for the camera table")
    p.add_argument("--styles", nargs="*", default=STYLES)
    p.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS, help="of the adapter, 0 first")
    p.add_argument("--sheet", help="a picture: per style and clip source, without, with the adapter, filter")
    p.add_argument("--sheet-clips", type=int, default=2)
    p.add_argument("--size", default="160x96", help="of the clips")
    p.add_argument("--camera-size", type=int, default=96)
    p.add_argument("--seeds", type=int, default=64)
    p.add_argument("--moves", nargs="*", default=sorted(OPPOSITE))
    p.add_argument("--no-fidelity", action="store_true")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    w, h = map(int, a.size.split("x"))
    coder = TAEF2(f"{HERE}/../../models/nano/vae")
    short = lambda path: os.path.splitext(os.path.basename(path))[0]
    clips, names = [to_bytes(read_clip(c, w, h, 8)) for c in a.clips], [short(c) for c in a.clips]
    for k, path in enumerate(a.held_out):
        clips.append(to_bytes(Renderer.shown(path, w, h, sorted(OPPOSITE)[k % len(OPPOSITE)])))
        names.append("held-out " + short(path))
    with tempfile.TemporaryDirectory() as folder:
        tool = Tool(a.videolora, a.model, folder, a.threads)
        if clips:
            clips = torch.stack(clips)
            if not a.no_fidelity:
                fidelity(a, tool, coder, clips, names)
            styles(a, tool, coder, clips, names)
        if a.judge:
            camera(a, tool)


if __name__ == "__main__":
    main()
