"""What lion.py makes and skips when it is there: training clips, adapters, generated clips, and the arguments that say how many."""
import argparse
import json
import os
import subprocess
import sys
from work import Work

p = argparse.ArgumentParser()
p.add_argument("videolora")
p.add_argument("--judge", required=True)
p.add_argument("--work", required=True)
p.add_argument("--jobs", type=int, default=2, help="processes side by side")
p.add_argument("--threads", type=int, default=1, help="threads of each")
p.add_argument("--steps", type=int, default=600, help="of lion and of the plain LoRA beside it; four times as many for zoom and twice for roll, which are learnt last")
p.add_argument("--lr", type=float, default=0.008, help="of lion and of the plain LoRA beside it")
p.add_argument("--targets", default='["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]', help="their layers, JSON")
p.add_argument("--shift", type=float, default=6, help="of their noise levels: motion is decided at high noise")
p.add_argument("--control", default="{}", help="settings of lion's token, JSON")
p.add_argument("--seeds", type=int, default=32)
p.add_argument("--grid-seeds", type=int, default=64)
p.add_argument("--vanilla-seeds", type=int, default=8, help="of the plain LoRA's grids, whose cross-talk no gate asks for")
p.add_argument("--only", choices=["clips", "train", "generate", "score"], action="append")
p.add_argument("--adapters", help="folder with trained adapters (lion/NAME.safetensors, vanilla/…, plain/…) to take instead of training")
a = p.parse_args()
work = Work(a.work, a.judge)
at = work.at
base = os.path.join(a.judge, "base")
judge = [sys.executable, os.path.join(a.judge, "judge.py")]
HELD_OUT = 800_000_000
CAMERAS = ["pan_left", "zoom_out", "tilt_up", "roll_ccw"]
SLOWER = {"zoom_out": 4, "roll_ccw": 2}
OBJECT = "upright"
PAIRS = [("pan_left", "zoom_out"), ("pan_left", "tilt_up"), ("zoom_out", "roll_ccw")]
# Moves that the base was trained on, one at a time, and pairs of them as the captions of SPOKEN name them.
SPOKEN = [("pan_right",), ("tilt_down",), ("zoom_in",), ("roll_cw",), ("pan_right", "tilt_down"), ("zoom_in", "roll_cw"), ("pan_right", "zoom_in")]
GRID = [0, 0.25, 0.5, 0.75, 1]
# A token that takes no attention and is not trained: pairs that act times the strength and nothing else.
DEAF = {**json.loads(a.control), "rate": 0, "share": 1e-9}
# Beside lion and vanilla, for the first move and half of the seeds: lion without its table, and lion without its token.
BESIDE = ["raw", "tokenless"]
TENTHS = [k / 10 for k in range(11)]


def wants(what):
    return a.only is None or what in a.only


# ---------------------------------------------------------------- training clips
def clips(name, amplitudes):
    """Clips of one move: for the kit's own baseline the 7,200 that it draws, else 2,048 of every amplitude."""
    import torch
    torch.set_num_threads(1)
    import world as W
    from safetensors.torch import save_file
    out = at("clips", f"{name}-{'full' if amplitudes[0] > 0 else 'range'}.safetensors")
    if os.path.exists(out):
        return out
    frames, labels = [], []
    batch, batches = (8, 900) if amplitudes[0] > 0 else (64, 32)
    for it in range(batches):
        seed = 500_000_000 + (1_000_000 if amplitudes[0] > 0 else 2_000_000) + it
        if name == OBJECT:
            f, l = W.clips(batch, seed, motions=[OBJECT], cameras=["static"], motion_amp=amplitudes, still_frac=0.1)
        else:
            still = dict(static_frac=0.1) if amplitudes[0] == 0 else {}
            f, l = W.clips(batch, seed, motions=W.BASE_MOTIONS, cameras=[name], camera_amp=amplitudes, still_frac=0.3, **still)
        frames.append(W.to_uint8(f))
        for i in range(batch):
            words = W.caption_words(l, i)
            if name == OBJECT:
                # Text says nothing of the motion, or that there is none: what moves is the adapter's alone.
                caption, amplitude = words[:2] + (["still"] if i % 2 else []), l["motion_amp"][i].item()
            else:
                caption, amplitude = words, l["camera_amp"][i].item()
            labels.append(dict(caption=caption, content=words[0], style=words[1], motion=words[2], camera=words[3], amplitude=round(amplitude, 5)))
    save_file({"frames": torch.cat(frames)}, out + ".part", {"labels": json.dumps(labels), "format": "pt"})
    os.rename(out + ".part", out)
    return out


# ---------------------------------------------------------------- jobs
def run_all(jobs):
    work.run_all(jobs, a.jobs)


def adapter(kind, name):
    if a.adapters:
        return os.path.join(a.adapters, kind, name + ".safetensors")
    return at("adapters", kind, name + ".safetensors")


def training(kind, name):
    out = adapter(kind, name)
    # plain: the kit's own baseline. vanilla: the same on the clips of lion, captions like lion's. tokenless: what of lion is not its token.
    both = ["--steps", str(a.steps * SLOWER.get(name, 1)), "--lr", str(a.lr), "--set", f"shift={a.shift}", "--set", f"targets={a.targets}", "--set", "clip_norm=0.05"]
    settings = dict(plain=["--steps", "900", "--lr", "0.001", "--set", "trigger_dropout=0.5"], vanilla=both + ["--set", "trigger_dropout=1"],
                    lion=both + ["--set", f"control={a.control}"], tokenless=both + ["--set", f"control={json.dumps(DEAF)}"])[kind]
    command = [a.videolora, "train", "lion" if kind in ("lion", "tokenless") else "lora", "--model", base, "--output", out, "--rank", "8", "--batch", "8",
               "--set", "decay=tail", "--set", f"role={'motion' if name == OBJECT else 'camera'}", "--set", "licence=CC0-1.0",
               "--data", clips(name, (0.9, 1.0) if kind == "plain" else (0.0, 1.0)), "--threads", str(a.threads), "--log", at("logs", f"{kind}-{name}.jsonl")]
    if os.path.exists(out.removesuffix(".safetensors") + ".resume.safetensors"):
        command.append("--resume")
    return out, command + settings


def prompts(kind):
    """test: the kit's neutral prompts; baseline: those of its vanilla.py; own: never used in a test"""
    out = at("prompts", kind + ".json")
    if not os.path.exists(out):
        if kind == "baseline":
            import vanilla as V
            caps = V.prompts(16, HELD_OUT + 5)
            json.dump([dict(caption=c, noise_seed=HELD_OUT + 5000 + i) for i, c in enumerate(caps)], open(out, "w"))
        else:
            seed = [] if kind == "test" else ["--seed", "700000000"]
            subprocess.run(judge + ["prompts", "--kind", "neutral", "--n", "64" if kind == "test" else "24", "--out", out, *seed], check=True, stdout=subprocess.DEVNULL)
    return out


def calibrated(name):
    """the lion adapter with its table, measured on prompts and noise of our own"""
    if a.adapters:
        return adapter("lion", name)
    return at("adapters", "calibrated", name + ".safetensors")


def calibration(name):
    out = calibrated(name)
    motion = "object" if name == OBJECT else name
    return out, [a.videolora, "lora", "calibrate", adapter("lion", name), "--model", base, "--motion", motion, "--prompts", prompts("own"),
                 "--guidance", "3", "--steps", "20", "--threads", str(a.threads), "--output", out, "--clips", "24" if name in CAMERAS[:2] else "12"]


def generation(out, loras, count, kind="test", extra=()):
    command = [a.videolora, "generate", "--model", base, "--prompts", prompts(kind), "--count", str(count), "--guidance", "3", "--steps", "20",
               "--threads", str(a.threads), "--output", out, *extra]
    for f, s in loras:
        command += ["--lora", f"{f}={s}"]
    return out, command


def spoken(words):
    """clips of the base alone, its captions with words of moves that it was trained on"""
    named = at("prompts", "+".join(words) + ".json")
    if not os.path.exists(named):
        own = json.load(open(prompts("own")))[:16]
        json.dump([dict(p, caption=p["caption"] + list(words)) for p in own], open(named, "w"))
    command = generation(at("gen", "spoken", "+".join(words) + ".safetensors"), [], 16)
    command[1][command[1].index("--prompts") + 1] = named
    return command


def still(kind):
    """clips of the base alone"""
    return generation(at("gen", f"base-{kind}.safetensors"), [], dict(test=64, baseline=16)[kind], kind)


def relabel(source, out, count, **label):
    """clips that are the same whoever made them: an adapter at strength 0 is off, bit for bit"""
    if os.path.exists(out):
        return
    from safetensors import safe_open
    from safetensors.torch import save_file
    with safe_open(source, "pt") as f:
        frames, labels = f.get_tensor("frames")[:count].contiguous(), json.loads(f.metadata()["labels"])[:count]
    for l in labels:
        l.pop("strength", None), l.pop("strengths", None), l.update(label)
    save_file({"frames": frames}, out + ".part", {"labels": json.dumps(labels), "format": "pt"})
    os.rename(out + ".part", out)


def source_file(kind, name):
    return calibrated(name) if kind == "lion" else adapter("lion" if kind == "raw" else kind, name)


def line(kind, name, count, prompts_kind="test"):
    """jobs of one strength sweep; raw is lion without its table"""
    return [generation(at("gen", kind, name, f"{s}.safetensors"), [(source_file(kind, name), s)], count, prompts_kind) for s in TENTHS[1:]]


def grid(kind, pair, count, prompts_kind="test"):
    files = [source_file(kind, n) for n in pair]
    mode = ["--compose", "norm"] if kind == "lion" else []
    jobs = [generation(at("gen", kind, "+".join(pair), f"{s}-{t}.safetensors"), list(zip(files, (s, t))), count, prompts_kind, mode)
            for s in GRID for t in GRID if s and t]
    if kind == "lion":        # one alone beside the other at rest still has the gains of the two
        jobs += [generation(at("gen", kind, "+".join(pair), f"{s}-{t}.safetensors"), list(zip(files, (s, t))), count, prompts_kind, mode)
                 for s in GRID for t in GRID if (s == 0) != (t == 0)]
    else:
        jobs += [generation(at("gen", kind, n, f"grid-{s}.safetensors"), [(f, s)], count, prompts_kind) for n, f in zip(pair, files) for s in GRID[1:]]
    return jobs


def grids(pair):
    """The two grids that are compared, and vanilla's far corner on every seed."""
    corner = generation(together(pair), [(source_file("vanilla", n), 1) for n in pair], a.grid_seeds)
    return grid("lion", pair, a.grid_seeds) + [corner] + grid("vanilla", pair, vanilla_seeds())


def together(pair):
    return at("gen", "vanilla", "+".join(pair), "together.safetensors")


def vanilla_seeds():
    return min(a.vanilla_seeds, a.grid_seeds)


def complete(kind, count, prompts_kind, name=None, pair=None):
    """adds the points at rest to a sweep's or a grid's folder; grid files of single adapters are kept out of sweeps"""
    rest = at("gen", f"base-{prompts_kind}.safetensors")
    if name:
        folder = at("sets", kind, name, "x")[:-2]
        relabel(rest, os.path.join(folder, "0.0.safetensors"), count, strength=0.0)
        for s in TENTHS[1:]:
            link(at("gen", kind, name, f"{s}.safetensors"), os.path.join(folder, f"{s}.safetensors"))
        return folder
    folder = at("sets", kind, "+".join(pair), "x")[:-2]
    relabel(rest, os.path.join(folder, "0-0.safetensors"), count, strengths=[0, 0])
    for s in GRID:
        for t in GRID:
            out = os.path.join(folder, f"{s}-{t}.safetensors")
            if s and t or kind == "lion" and (s or t):
                link(at("gen", kind, "+".join(pair), f"{s}-{t}.safetensors"), out)
            elif s or t:
                relabel(at("gen", kind, pair[0] if s else pair[1], f"grid-{s or t}.safetensors"), out, count, strengths=[s, t])
    return folder


def link(source, target):
    if not os.path.exists(source):
        raise FileNotFoundError(source)
    if not os.path.exists(target):
        os.symlink(os.path.abspath(source), target)


def score(name, *arguments):
    out = at("scores", name + ".json")
    if not os.path.exists(out):
        subprocess.run(judge + list(arguments) + ["--threads", "1", "--json", out], check=True, stdout=subprocess.DEVNULL)
    return json.load(open(out))


def attack_jobs(kind, pair):
    from safetensors import safe_open
    from safetensors.torch import save_file
    files = [source_file(kind, n) for n in pair]
    five = at("adapters", "attacked", f"{kind}-{pair[0]}.safetensors")
    if os.path.exists(files[0]) and not os.path.exists(five):
        with safe_open(files[0], "pt") as f:
            t = {k: f.get_tensor(k) * (5 if ".lora_B." in k else 1) for k in f.keys()}
            save_file(t, five + ".part", f.metadata())
        os.rename(five + ".part", five)
    mode = ["--compose", "norm"] if kind == "lion" else []
    return [generation(at("gen", kind, "attack", f"{'+'.join(pair)}-{w}.safetensors"), [(f, 1), (files[1], 1)], 8, "test", mode)
            for w, f in (("before", files[0]), ("after", five))]


def ramp_job(kind, name):
    return generation(at("gen", kind, name, "ramp.safetensors"), [], a.seeds, "test", ["--lora-curve", f"{source_file(kind, name)}=0:0,7:1"])
