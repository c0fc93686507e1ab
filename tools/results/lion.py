"""LiON-LoRA against a plain LoRA on the judge kit's base model: clips, trainings, generated clips, scores, one table and a verdict.

  python3 lion.py VIDEOLORA --judge DIR --work DIR [--jobs 2] [--threads 1] [--grid-seeds 64] [--only train|generate|score]

Everything is skipped that lies in the work folder already, trainings go on from their checkpoints, so the script may be stopped at any
time. Training clips come from the kit's world with seeds below 800,000,000; test prompts and noise are the kit's held-out ones.
Exit status 0 when every gate holds, 1 when one is missed, 2 when something failed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
from work import Work

p = argparse.ArgumentParser()
p.add_argument("videolora")
p.add_argument("--judge", required=True)
p.add_argument("--work", required=True)
p.add_argument("--jobs", type=int, default=2, help="processes side by side")
p.add_argument("--threads", type=int, default=1, help="threads of each")
p.add_argument("--steps", type=int, default=600, help="of lion and of the plain LoRA beside it; twice as many for zoom and roll, which are learnt last")
p.add_argument("--lr", type=float, default=0.008, help="of lion and of the plain LoRA beside it")
p.add_argument("--targets", default='["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]', help="their layers, JSON")
p.add_argument("--shift", type=float, default=6, help="of their noise levels: motion is decided at high noise")
p.add_argument("--control", default="{}", help="settings of lion's token, JSON")
p.add_argument("--seeds", type=int, default=32)
p.add_argument("--grid-seeds", type=int, default=64)
p.add_argument("--only", choices=["clips", "train", "generate", "score"], action="append")
p.add_argument("--adapters", help="folder with trained adapters (lion/NAME.safetensors, vanilla/…, plain/…) to take instead of training")
a = p.parse_args()
work = Work(a.work, a.judge)
at = work.at
base = os.path.join(a.judge, "base")
judge = [sys.executable, os.path.join(a.judge, "judge.py")]
HELD_OUT = 800_000_000
CAMERAS = ["pan_left", "zoom_out", "tilt_up", "roll_ccw"]
SLOW = ["zoom_out", "roll_ccw"]
OBJECT = "upright"
PAIRS = [("pan_left", "zoom_out"), ("pan_left", "tilt_up"), ("zoom_out", "roll_ccw")]
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
    both = ["--steps", str(a.steps * (2 if name in SLOW else 1)), "--lr", str(a.lr), "--set", f"shift={a.shift}", "--set", f"targets={a.targets}", "--set", "clip_norm=0.05"]
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


# ---------------------------------------------------------------- what is measured without judge.py's commands
def frames(path):
    import judge as J
    return J.read(path)[0]


def ramp(kind, name, count):
    """Spearman's correlation of camera speed with the frame index while the strength rises from 0 to 1, clip by clip"""
    import camera as C
    import judge as J
    import scorers as S
    import torch
    axis, sign = J.AXIS[name]
    path = C.camera(frames(at("gen", kind, name, "ramp.safetensors"))[:count])["cam"][..., axis] * sign
    speed = path[:, 1:] - path[:, :-1]
    each = torch.tensor([S.spearman(torch.arange(speed.shape[1]), v) for v in speed])
    return dict(mean=each.mean().item(), low=each.quantile(0.05).item(), speeds=[round(v, 3) for v in speed.mean(0).tolist()], n=len(each))


def attack(kind, pair):
    """relative change of the clips of two fused adapters when the first one's B is five times as large"""
    x, y = (frames(at("gen", kind, "attack", f"{'+'.join(pair)}-{w}.safetensors")) for w in ("before", "after"))
    return ((y - x).norm() / x.norm()).item()


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


# ---------------------------------------------------------------- order of work: what matters most comes first
def main():
    main_axes, more = CAMERAS[:2], CAMERAS[2:]
    objects = ("pan_left", OBJECT)
    if wants("clips"):
        for n in CAMERAS + [OBJECT]:
            clips(n, (0.0, 1.0))
        for n in main_axes:
            clips(n, (0.9, 1.0))
    stages = [[training("lion", n) for n in main_axes] + [training("vanilla", n) for n in main_axes],
              [training("plain", n) for n in main_axes] + [training("tokenless", main_axes[0])],
              [training(k, n) for n in more for k in ("lion", "vanilla")], [training("lion", OBJECT)]]
    sweeps = [[still("test"), still("baseline")], [j for n in main_axes for j in line("lion", n, a.seeds)],
              [j for n in main_axes for j in line("vanilla", n, a.seeds)] + [ramp_job("lion", n) for n in main_axes]]
    if wants("train"):
        run_all([] if a.adapters else stages[0])
        run_all([calibration(n) for n in main_axes])
    if wants("generate"):
        for s in sweeps:
            run_all(s)
        run_all([j for k in ("lion", "vanilla") for j in attack_jobs(k, PAIRS[0])])
        run_all(grid("lion", PAIRS[0], a.grid_seeds) + grid("vanilla", PAIRS[0], a.grid_seeds))
    if wants("train"):
        run_all(stages[1])
    if wants("generate"):
        run_all([j for n in main_axes for j in line("plain", n, 16, "baseline")] + grid("plain", PAIRS[0], 16, "baseline"))
        run_all([j for k in BESIDE for j in line(k, main_axes[0], a.seeds // 2)])
    if wants("train"):
        run_all(stages[2])
        run_all([calibration(n) for n in more])
    if wants("generate"):
        for pair in PAIRS[1:]:
            run_all(grid("lion", pair, a.grid_seeds) + grid("vanilla", pair, a.grid_seeds))
    if wants("train"):
        run_all(stages[3])
        run_all([calibration(OBJECT)])
    if wants("generate"):
        run_all(grid("lion", objects, a.grid_seeds))
    if wants("score"):
        sys.exit(0 if report() else 1)


gates = []


def gate(name, holds):
    gates.append((name, bool(holds)))
    return "holds" if holds else "MISSED"


def row(what, measure, *arguments, gated=True):
    """One row of a table; one whose clips are not there yet is a gate that is missed."""
    try:
        measure(*arguments)
    except (subprocess.CalledProcessError, FileNotFoundError, SystemExit) as e:
        print(f"{what}: incomplete ({e})")
        if gated:
            gate(what, False)


def baseline_line(ref, n):
    r = score(f"plain-{n}", "linearity", complete("plain", 16, "baseline", name=n), "--axis", n)
    k = ref["linearity_" + n]
    meets = r["r2_low"] <= k["r2_high"] and k["r2_low"] <= r["r2_high"] or r["r2"] > k["r2"]
    print(f"{n} R2 | {r['r2']:.3f} ({r['r2_low']:.3f}..{r['r2_high']:.3f}) | {k['r2']:.3f} ({k['r2_low']:.3f}..{k['r2_high']:.3f}) | {gate('vanilla ' + n, meets)}")
    print(f"{n} amplitude at 1 | {r['mean'][-1]:.2f} | {k['mean'][-1]:.2f}")
    d = score(f"plain-{n}-direction", "direction", at("gen", "plain", n, "1.0.safetensors"), "--axis", n)["success"]
    want = ref["direction_success"][n]["with_adapter"]
    print(f"{n} direction | {d['mean']:.2f} ({d['low']:.2f}..{d['high']:.2f}) | {want:.2f} | {gate('vanilla direction ' + n, d['high'] >= want)}")


def baseline_grid(ref):
    c, k = score("plain-crosstalk", "crosstalk", complete("plain", 16, "baseline", pair=PAIRS[0]), "--axes", *PAIRS[0]), ref["crosstalk"]
    meets = c["chi_low"] <= k["chi_high"]
    print(f"cross-talk chi | {c['chi']:.3f} ({c['chi_low']:.3f}..{c['chi_high']:.3f}) | {k['chi']:.3f} ({k['chi_low']:.3f}..{k['chi_high']:.3f}) | {gate('vanilla crosstalk', meets)}")


def linearity(kind, title, n, count):
    r = score(f"{kind}-{n}", "linearity", complete(kind, count, "test", name=n), "--axis", n,
              *(["--against", complete("vanilla", count, "test", name=n)] if kind == "lion" else []))
    print(f"{n} {title} | {r['r2']:.4f} ({r['r2_low']:.4f}..{r['r2_high']:.4f}) | {100 * r['max_deviation']:.1f} % | {r['spearman']:.3f} | {r['zero_ratio']:.3f} | {r['mean'][-1]:.2f}")
    print("   curve " + " ".join(f"{v:.2f}" for v in r["mean"]))
    if kind != "lion":
        return
    half = r["one_minus_r2_minus_half_of_other"]
    bound = 0.99 if n == "pan_left" else 0.97
    straight = r["r2"] >= bound and (n != "pan_left" or r["max_deviation"] <= 0.05)
    print(f"   R2 >= {bound}{' and deviation <= 5 %' if n == 'pan_left' else ''}: {gate('T1 ' + n, straight)}; (1-R2) - half of vanilla's in "
          f"{half['low']:.4f}..{half['high']:.4f}: {gate('T1 half ' + n, half['passes'])}; reach >= 0.8: {gate('T1 reach ' + n, r['mean'][-1] >= 0.8)}")


def crosstalk(kind, pair):
    """scores of one grid, and how much 'still' moved"""
    folder = complete(kind, a.grid_seeds, "test", pair=pair)
    c = score(f"{kind}-{'+'.join(pair)}", "crosstalk", folder, "--axes", *["object" if n == OBJECT else n for n in pair])
    moved = score(f"{kind}-{'+'.join(pair)}-leakage", "leakage", os.path.join(folder, "1-1.safetensors"), os.path.join(folder, "0-0.safetensors"), "--intended", "camera")["motion"]["value"]
    print(f"{'+'.join(pair)} {kind} | {c['chi']:.3f} ({c['chi_low']:.3f}..{c['chi_high']:.3f}) | {c['fit_r2'][0]:.2f} {c['fit_r2'][1]:.2f} | {moved:.2f} | {c['solo_range'][0]:.2f} {c['solo_range'][1]:.2f}")
    return c, moved


def crosstalk_of_cameras(pair):
    name = "+".join(pair)
    (_, theirs), (c, moved) = crosstalk("vanilla", pair), crosstalk("lion", pair)
    low, high = sorted(c["solo_range"])
    print(f"   chi <= 0.06: {gate('T2 chi ' + name, c['chi'] <= 0.06)}; fit >= 0.9: {gate('T2 fit ' + name, min(c['fit_r2']) >= 0.9)}; "
          f"'still' at most half of vanilla's: {gate('T2 still ' + name, moved <= 0.5 * theirs)}; reaches within 1.25: {gate('T3 reach ' + name, high <= 1.25 * low)}")


def crosstalk_of_object():
    c, _ = crosstalk("lion", ("pan_left", OBJECT))
    print(f"   chi <= 0.15: {gate('T6', c['chi'] <= 0.15)}")


def weights(pair):
    r = json.loads(subprocess.run([a.videolora, "lora", "report", "--json"] + [calibrated(n) for n in pair], check=True, capture_output=True, text=True).stdout)
    raw, composed = (max(l[k] for l in r["layers"]) for k in ("norm_ratio", "composed_ratio"))
    print(f"\nT3 norm ratio {'+'.join(pair)}, largest of {len(r['layers'])} layers | raw {raw:.2f} | norm {composed:.4f} | {gate('T3 ratio ' + '+'.join(pair), composed <= 1.001)}")
    trend = r["depth_correlation"]
    cosines = " ".join(f"{b['cosine']:.3f}" for b in r["blocks"])
    print(f"T4 |cosine| by block | {cosines} | Spearman with depth {trend if trend is None else round(trend, 2)} | orthogonal prefix {r['orthogonal_prefix']} of {len(r['blocks'])}")


def attacked():
    ours, theirs = attack("lion", PAIRS[0]), attack("vanilla", PAIRS[0])
    print(f"T3 one adapter five times as large | lion {100 * ours:.2f} % | vanilla {100 * theirs:.1f} % | {gate('T3 attack', ours < 0.01 and theirs > 0.1)}")


def ramped(n):
    r = ramp("lion", n, a.seeds)
    print(f"{n} | {r['mean']:.2f} ({r['low']:.2f}) | {' '.join(map(str, r['speeds']))} | {gate('ramp ' + n, r['mean'] >= 0.8)}")


def report():
    main_axes = CAMERAS[:2]
    ref = json.load(open(os.path.join(a.judge, "baseline", "results.json")))
    print("\nVanilla, trained as the kit's own (900 steps, amplitude 0.9..1), 16 seeds | ours | the kit's")
    for n in main_axes:
        row("vanilla " + n, baseline_line, ref, n)
    row("vanilla crosstalk", baseline_grid, ref)
    print(f"\nT1 linearity, {a.seeds} seeds ({a.seeds // 2} without table, token) | R2 (interval) | largest deviation | Spearman | at 0 / at 1 | reach")
    for n in main_axes:
        row("vanilla " + n, linearity, "vanilla", "vanilla", n, a.seeds, gated=False)
        if n == main_axes[0]:
            row("tokenless " + n, linearity, "tokenless", "lion without its token, no table", n, a.seeds // 2, gated=False)
            row("raw " + n, linearity, "raw", "lion, no table", n, a.seeds // 2, gated=False)
        row("T1 " + n, linearity, "lion", "lion", n, a.seeds)
    print(f"\nT2 cross-talk, {a.grid_seeds} seeds, 5x5 | chi (interval) | linear fit R2 | 'still' moved | solo reach")
    for pair in PAIRS:
        row("T2 " + "+".join(pair), crosstalk_of_cameras, pair)
    row("T6", crosstalk_of_object)
    for pair in PAIRS:
        row("T3 ratio " + "+".join(pair), weights, pair)
    row("T3 attack", attacked)
    print("T5 mask | swift test --filter ControlTokenTests")
    print(f"\nStrength 0 to 1 over one clip, {a.seeds} seeds | Spearman of speed with the frame index, mean (5th percentile) | mean speed by frame")
    for n in main_axes:
        row("ramp " + n, ramped, n)
    missed = [n for n, ok in gates if not ok]
    print(f"\n{len(gates) - len(missed)} of {len(gates)} gates hold" + ("" if not missed else "; missed: " + ", ".join(missed)))
    return not missed


if __name__ == "__main__":
    main()
