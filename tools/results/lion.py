"""LiON-LoRA against a plain LoRA on the judge kit's base model: clips, trainings, generated clips, scores, one table and a verdict.

  python3 lion.py VIDEOLORA --judge DIR --work DIR [--jobs 2] [--threads 1] [--grid-seeds 64] [--only train|generate|score]

Everything is skipped that lies in the work folder already, trainings go on from their checkpoints, so the script may be stopped at any
time. Training clips come from the kit's world with seeds below 800,000,000; test prompts and noise are the kit's held-out ones.
Exit status 0 when every gate holds, 1 when one is missed, 2 when something failed.
"""
import json
import os
import subprocess
import sys
from lion_jobs import (BESIDE, CAMERAS, OBJECT, PAIRS, SPOKEN, a, at, attack_jobs, calibrated, calibration, clips, complete, grid, grids,
                       line, ramp_job, relabel, run_all, score, spoken, still, together, training, wants)


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
        run_all(grids(PAIRS[0]))
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
            run_all(grids(pair))
    if wants("train"):
        run_all(stages[3])
        run_all([calibration(OBJECT)])
    if wants("generate"):
        run_all(grid("lion", objects, a.seeds // 2))
        run_all([spoken(words) for words in SPOKEN])
    if wants("score"):
        sys.exit(0 if report() else 1)


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


def seeds_of(path):
    """How many clips a file has."""
    from safetensors import safe_open
    with safe_open(path, "pt") as f:
        return f.get_slice("frames").get_shape()[0]


def crosstalk(kind, pair):
    """scores of one grid, of as many seeds as it was made of, and how much 'still' moved"""
    count = seeds_of(at("gen", kind, "+".join(pair), "1-1.safetensors"))
    folder = complete(kind, count, "test", pair=pair)
    c = score(f"{kind}-{'+'.join(pair)}", "crosstalk", folder, "--axes", *["object" if n == OBJECT else n for n in pair])
    corner, shown = (os.path.join(folder, "1-1.safetensors"), count) if kind == "lion" else (together(pair), seeds_of(together(pair)))
    rest = at("sets", f"rest-{shown}.safetensors")
    relabel(at("gen", "base-test.safetensors"), rest, shown)
    moved = score(f"{kind}-{'+'.join(pair)}-leakage", "leakage", corner, rest, "--intended", "camera")["motion"]["value"]
    print(f"{'+'.join(pair)} {kind} | {count} | {c['chi']:.3f} ({c['chi_low']:.3f}..{c['chi_high']:.3f}) | {c['fit_r2'][0]:.2f} {c['fit_r2'][1]:.2f} | {moved:.2f} | {c['solo_range'][0]:.2f} {c['solo_range'][1]:.2f}")
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


def spoken_moves(words):
    """what the base does when its own words ask for a move, or for two at once"""
    import camera as C
    import judge as J
    clips = frames(spoken(words)[0])
    am = C.amplitudes(C.camera(clips)["cam"], clips.shape[-2])
    each = [am[:, J.AXIS[w][0]] * J.AXIS[w][1] for w in words]
    print(f"{' and '.join(words)} | " + " and ".join(f"{v.mean():.2f}" for v in each))


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
    print("\nT2 cross-talk, 5x5 | seeds | chi (interval) | linear fit R2 | 'still' moved | solo reach")
    for pair in PAIRS:
        row("T2 " + "+".join(pair), crosstalk_of_cameras, pair)
    row("T6", crosstalk_of_object)
    for pair in PAIRS:
        row("T3 ratio " + "+".join(pair), weights, pair)
    row("T3 attack", attacked)
    print("\nThe base alone, moves that it was trained on named in its captions, 16 seeds | mean amplitude of each")
    for words in SPOKEN:
        row(" ".join(words), spoken_moves, words, gated=False)
    print("T5 mask | swift test --filter ControlTokenTests")
    print(f"\nStrength 0 to 1 over one clip, {a.seeds} seeds | Spearman of speed with the frame index, mean (5th percentile) | mean speed by frame")
    for n in main_axes:
        row("ramp " + n, ramped, n)
    missed = [n for n, ok in gates if not ok]
    print(f"\n{len(gates) - len(missed)} of {len(gates)} gates hold" + ("" if not missed else "; missed: " + ", ".join(missed)))
    return not missed


if __name__ == "__main__":
    main()
