"""MotionLoRA on the tiny UNet of tools/bench-unet: sources, trainings, generated clips, scores, one table and a verdict (methods 4.8).

  python3 motionlora.py VIDEOLORA --judge DIR --work DIR [--model DIR] [--seeds 32] [--steps 600] [--only sources|train|generate|score]

Sources are wide shots of the kit's world from a camera at rest, seeds below 800,000,000; the moves are made from them by
`train motion-lora --moves`. Prompts and noise of the test are the kit's held-out ones and name no camera. What lies in the work folder
already is skipped and trainings go on from their checkpoints, so the script may be stopped at any time. Exit status 0 when every gate
holds, 1 when one is missed, 2 when something failed.
"""
import argparse
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace
from work import Work

here = os.path.dirname(os.path.abspath(__file__))
p = argparse.ArgumentParser()
p.add_argument("videolora")
p.add_argument("--judge", required=True)
p.add_argument("--work", required=True)
p.add_argument("--model", default=os.path.join(here, "..", "bench-unet", "model"))
p.add_argument("--seeds", type=int, default=32, help="clips of each measurement")
p.add_argument("--threads", type=int, default=1)
p.add_argument("--steps", type=int, default=600, help="of each training")
p.add_argument("--batch", type=int, default=4)
p.add_argument("--rank", type=int, default=16)
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--sampling", type=int, default=20, help="steps of a clip")
p.add_argument("--guidance", type=float, default=3)
p.add_argument("--moves", default="", help="some of the moves only, with commas")
p.add_argument("--parts", default="direction,curve,pair,sweep,look", help="some of the measurements only; the others count as missed")
p.add_argument("--only", choices=["sources", "train", "generate", "score"], action="append")
a = p.parse_args()
work = Work(a.work, a.judge)
at = work.at
MOVES = ["pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "roll_cw", "roll_ccw"]
moves = [m for m in MOVES if not a.moves or m in a.moves.split(",")]
CURVE, COUNTS = ["pan_left", "zoom_out"], [5, 20, 50]
PAIR = ("pan_right", "zoom_in")
PARTS = a.parts.split(",")
SWEEP = [0.0, 0.25, 0.5, 0.75, 1.0]


def wants(what):
    return a.only is None or what in a.only


def run(out, command):
    work.run_all([(out, command)])


# ---------------------------------------------------------------- sources
def sources(count):
    """`count` shots of 8 frames 32x32 at the scale of the kit's 24x24 clips: what lies around them is seen too"""
    out = at("sources", f"{count}.safetensors")
    if os.path.exists(out):
        return out
    import torch
    import world as W
    from safetensors.torch import save_file
    side, unit = 32, 32 / 24
    _, l = W.clips(max(COUNTS), 610_000_000, motions=W.BASE_MOTIONS, cameras=["static"], still_frac=0.3)
    camera = torch.zeros(max(COUNTS), 8, 4)
    camera[..., 2] = -math.log(unit)
    frames = W.render(l["content"], l["style"], l["object_world"], camera, l["phases"], 8, side, side)
    labels = [dict(caption=W.caption_words(l, i)[:3]) for i in range(count)]
    save_file({"frames": W.to_uint8(frames)[:count].contiguous()}, out + ".part", {"labels": json.dumps(labels), "format": "pt"})
    os.rename(out + ".part", out)
    return out


# ---------------------------------------------------------------- trainings
def train(name, move, count, recipe="motion-lora", *settings, rank=None):
    out = at("adapters", name + ".safetensors")
    command = [a.videolora, "train", recipe, "--model", a.model, "--data", sources(count), "--moves", move, "--output", out,
               "--rank", str(rank or a.rank), "--steps", str(a.steps), "--batch", str(a.batch), "--lr", str(a.lr),
               "--threads", str(a.threads), "--log", at("logs", name + ".jsonl"), "--set", "decay=tail", "--set", "licence=CC0-1.0", *settings]
    if os.path.exists(out.removesuffix(".safetensors") + ".resume.safetensors"):
        command.append("--resume")
    run(out, command)
    return out


SPATIAL = ["*.attentions.*.attn*." + k for k in ("to_q", "to_k", "to_v", "to_out.0")]


def spatial_rank():
    """what makes a LoRA on the attention within pictures as large as one on that between frames"""
    from safetensors import safe_open
    sizes = dict(motion=0, picture=0)
    for part, key in (("motion_adapter", "motion"), ("unet", "picture")):
        with safe_open(os.path.join(a.model, part, "diffusion_pytorch_model.safetensors"), "pt") as f:
            for k in f.keys():
                if ".attn" in k and k.endswith(".weight"):
                    sizes[key] += sum(f.get_slice(k).get_shape())
    return round(a.rank * sizes["motion"] / sizes["picture"])


def adapter(name):
    return at("adapters", name + ".safetensors")


def train_all():
    for m in moves:
        train(m, m, 50)
    for m in [m for m in CURVE if m in moves and "curve" in PARTS]:
        for n in COUNTS[:-1]:
            train(f"{m}-{n}", m, n)
    if "look" in PARTS:
        train("spatial-" + moves[0], moves[0], 50, "lora", "--set", "targets=" + json.dumps(SPATIAL), "--set", "role=camera", rank=spatial_rank())


# ---------------------------------------------------------------- clips
def prompts():
    out = at("prompts.json")
    if not os.path.exists(out):
        subprocess.run([sys.executable, os.path.join(a.judge, "judge.py"), "prompts", "--kind", "neutral", "--n", "64", "--out", out],
                       check=True, stdout=subprocess.DEVNULL)
    return out


def generate(name, *loras):
    out = at("gen", name + ".safetensors")
    command = [a.videolora, "generate", "--model", a.model, "--prompts", prompts(), "--count", str(a.seeds), "--guidance", str(a.guidance),
               "--steps", str(a.sampling), "--threads", str(a.threads), "--output", out]
    for f, s in loras:
        command += ["--lora", f"{f}={s}"]
    run(out, command)
    return out


def generate_all():
    generate("base")
    for m in moves:
        generate(m, (adapter(m), 1))
    for m in [m for m in CURVE if m in moves]:
        for n in COUNTS[:-1] if "curve" in PARTS else []:
            generate(f"{m}-{n}", (adapter(f"{m}-{n}"), 1))
        for s in SWEEP[1:-1] if "sweep" in PARTS else []:
            generate(f"sweep-{m}-{s}", (adapter(m), s))
    if "pair" in PARTS and all(m in moves for m in PAIR):
        generate("pair", *[(adapter(m), 1) for m in PAIR])
    if "look" in PARTS:
        generate("spatial", (adapter("spatial-" + moves[0]), 1))


# ---------------------------------------------------------------- scores
gates = []


def gate(name, holds):
    gates.append((name, bool(holds)))
    return "holds" if holds else "MISSED"


def amplitudes(name):
    """per clip: along pan, tilt, zoom, roll in units of full scale"""
    import camera as C
    import judge as J
    x = J.read(at("gen", name + ".safetensors"))[0]
    return C.amplitudes(C.camera(x)["cam"], x.shape[-2])


def direction(name, move):
    import judge as J
    r = J.cmd_direction(SimpleNamespace(path=at("gen", name + ".safetensors"), axis=move, trained=1.0))
    return r["success"]["mean"], r["amplitude"]["mean"]


def appearance(name):
    """mean total variation of what the kit's classifiers see as content and style, against the same seeds of the base"""
    import judge as J
    import scorers as S
    r = S.leakage(S.predict(J.read(at("gen", name + ".safetensors"))[0]), S.predict(J.read(at("gen", "base.safetensors"))[0]), {"camera"})
    return r["content"]["value"], r["style"]["value"]


def accuracy(name):
    import judge as J
    import scorers as S
    import world as W
    x, labels = J.read(at("gen", name + ".safetensors"))
    p = S.predict(x)
    words = [l["caption"] if isinstance(l["caption"], list) else l["caption"].split() for l in labels]
    of = lambda k, known: sum(p[k][i].argmax().item() == known.index(next(w for w in ws if w in known)) for i, ws in enumerate(words)) / len(words)
    return of("content", W.CONTENTS), of("style", W.STYLES)


def report():
    import scorers as S
    import torch
    torch.set_num_threads(1)
    AX = {"pan_left": (0, 1), "pan_right": (0, -1), "tilt_up": (1, 1), "tilt_down": (1, -1),
          "zoom_in": (2, 1), "zoom_out": (2, -1), "roll_cw": (3, 1), "roll_ccw": (3, -1)}
    look = accuracy("base")
    print(f"\nBase, {a.seeds} held-out prompts without a camera word: content {100 * look[0]:.0f} %, style {100 * look[1]:.0f} %")
    print(f"\nDirection, {a.seeds} clips each, 50 sources, rank {a.rank}, {a.steps} steps of {a.batch} | with adapter | base | mean amplitude")
    with_, without = [], []
    for m in moves:
        own, amplitude = direction(m, m)
        base, _ = direction("base", m)
        with_.append(own), without.append(base)
        print(f"{m} | {100 * own:.0f} % | {100 * base:.0f} % | {amplitude:.2f}")
    mean = sum(with_) / len(with_)
    print(f"mean of {len(moves)} | {100 * mean:.0f} % | {100 * sum(without) / len(without):.0f} % | >= 90 %: "
          f"{gate('direction', mean >= 0.9 and len(moves) == 8)}, base <= 20 %: {gate('base', max(without) <= 0.2)}")
    curve = [m for m in CURVE if m in moves]
    for m in curve if "curve" in PARTS else []:
        r = [direction(m if n == 50 else f"{m}-{n}", m) for n in COUNTS]
        rises = r[0][0] <= r[1][0] + 1e-9 and r[2][0] >= r[1][0] - 0.03
        print(f"{m} from {COUNTS} sources | " + ", ".join(f"{100 * s:.0f} % ({v:.2f})" for s, v in r) + f" | rising, 50 >= 20 - 3 points: {gate('data curve ' + m, rises)}")
    if "pair" in PARTS and all(m in moves for m in PAIR):
        v = amplitudes("pair")
        both = torch.stack([v[:, AX[m][0]] * AX[m][1] > 0.3 for m in PAIR]).all(0).float().mean().item()
        print(f"{' + '.join(PAIR)}, both seen | {100 * both:.0f} % | >= 70 %: {gate('composition', both >= 0.7)}")
    for m in curve if "sweep" in PARTS else []:
        i, s = AX[m]
        v = torch.stack([amplitudes(m if g == 1 else "base" if g == 0 else f"sweep-{m}-{g}")[:, i] * s for g in SWEEP])
        whole = S.spearman(torch.tensor(SWEEP), v.mean(1)) if hasattr(S, "spearman") else float("nan")
        each = torch.tensor([float(S.spearman(torch.tensor(SWEEP), v[:, k])) for k in range(v.shape[1])]).mean().item()
        print(f"{m} at strengths {SWEEP} | " + " ".join(f"{x:.2f}" for x in v.mean(1)) + f" | Spearman of the means {float(whole):.2f}, of clips {each:.2f} | "
              f">= 0.9: {gate('sweep ' + m, float(whole) >= 0.9)}")
    if "look" in PARTS:
        looks(look)
    for part in ("curve", "pair", "sweep", "look"):
        if part not in PARTS or part == "pair" and not all(m in moves for m in PAIR) or part in ("curve", "sweep") and len(curve) < len(CURVE):
            print(f"{part} | not run: {gate(part, False)}")
    missed = [n for n, ok in gates if not ok]
    print(f"\n{len(gates) - len(missed)} of {len(gates)} gates hold" + ("" if not missed else "; missed: " + ", ".join(missed)))
    return not missed


def looks(look):
    first = moves[0]
    ours, theirs = appearance(first), appearance("spatial")
    kept, other = accuracy(first), accuracy("spatial")
    seen, amplitude = direction("spatial", first)
    print(f"Look changed by {first}, mean total variation of content, style | MotionLoRA {ours[0]:.3f}, {ours[1]:.3f} | spatial LoRA, rank {spatial_rank()} "
          f"{theirs[0]:.3f}, {theirs[1]:.3f} | less: {gate('appearance', sum(ours) < sum(theirs))}")
    print(f"   content, style right | base {look[0]:.2f}, {look[1]:.2f} | MotionLoRA {kept[0]:.2f}, {kept[1]:.2f} | spatial {other[0]:.2f}, {other[1]:.2f}; "
          f"direction of the spatial one {100 * seen:.0f} % ({amplitude:.2f})")


if wants("sources"):
    for n in COUNTS:
        sources(n)
if wants("train"):
    train_all()
if wants("generate"):
    generate_all()
if wants("score"):
    sys.exit(0 if report() else 1)
