"""AnimateDiff's rows of speed.py: the SD1.5 UNet with motion modules, its autoencoder and text encoder beside diffusers and
stable-diffusion.cpp. MODELS/animatediff-full and, for memory alone, TINY/animatediff-tiny of make_models.py.

Where one call takes minutes (the autoencoder; everything in bf16 on a processor that does not multiply it) the peer is timed
in its first call. bench_diffusers.py's own functions make the models and their inputs.
"""
import os
import re
import sys

W2 = ["--frames", "16", "--width", "256", "--height", "256"]
PRECISIONS = ("f32", "bf16", "int8")

# Calls of a workload of bench_diffusers.py; the best counts, and a warm-up goes before them unless it is one call.
PEER = """
import json, resource, sys, time, torch
peers, models, workload, dtype, threads, calls = sys.argv[1:]
sys.path.insert(0, peers)
import bench_diffusers
torch.set_num_threads(int(threads))
dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576
with torch.inference_mode():
    start = time.perf_counter()
    if workload == "text":  # a prompt and its opposite, as bench --workload text
        from transformers import CLIPTextModel
        model = CLIPTextModel.from_pretrained(f"{models}/animatediff-full/text_encoder", dtype=dtype)
        ids = torch.randint(0, model.config.vocab_size, (2, 77))
        call = lambda: model(ids)[0]
    else:
        model, call = bench_diffusers.load(models, workload, dtype)
    loaded, before = time.perf_counter() - start, rss()
    model.eval()
    if int(calls) > 1:
        call()
    times = []
    for _ in range(int(calls)):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
print(json.dumps(dict(best_s=min(times), times=times, calls=int(calls), load_s=loaded, loaded_rss_gb=before,
                      peak_rss_gb=rss())))
"""

# From the start of Python to the UNet's first call, and within it what AnimateDiffPipeline.from_pretrained takes.
FIRST = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[3]))
from diffusers import AnimateDiffPipeline
start = time.perf_counter()
pipeline = AnimateDiffPipeline.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
print("LOADED", round(time.perf_counter() - start, 3), flush=True)
def begun(*_):
    print("FIRST", flush=True)
    sys.stdin.read()
pipeline.unet.register_forward_pre_hook(begun)
pipeline("a red fox", height=256, width=256, num_frames=16, num_inference_steps=2, guidance_scale=7.5)
"""


def tiny_with_autoencoder(options):
    """A model of which nothing but the autoencoder is large, for the memory that this takes."""
    folder = f"{options.work}/autoencoder-alone"
    tiny, full = f"{options.tiny}/animatediff-tiny", f"{options.models}/animatediff-full"
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(tiny):
        target, link = (f"{full}/vae" if name == "vae" else f"{tiny}/{name}"), f"{folder}/{name}"
        if not os.path.lexists(link):
            os.symlink(target, link)
    return folder


def runs(options, first_engine, first_diffusers):
    """Every run in order: (row, command or function). The two functions are given a precision."""
    model = f"{options.models}/animatediff-full"

    def engine(workload, precision, *extra, size=W2, of=model):
        return [options.videolora, "bench", "--model", of, "--workload", workload, "--precision", precision, *size,
                "--json", *extra]

    def peer(workload, mode, calls):
        return [sys.executable, "-c", PEER, options.peers, options.models, workload, mode, str(options.threads), str(calls)]

    plan = []
    for label in ("a", "b"):
        for precision in PRECISIONS:
            plan.append((f"W2 engine {precision} {label}", engine("step", precision, "--repeat", str(options.calls))))
        if label == "a":
            plan.append(("W2 diffusers fp32", peer("W2", "fp32", options.calls)))
            plan.append(("W2 diffusers bf16", peer("W2", "bf16", 1)))
    decode = tiny_with_autoencoder(options) if options.tiny else model
    for label in ("a", "b"):
        plan.append((f"W3a engine f32 {label}", engine("vae-decode", "f32", "--repeat", "1", of=decode)))
        if label == "a":
            plan.append(("W3a diffusers fp32", peer("W3a", "fp32", 1)))
            plan.append(("W3a diffusers bf16", peer("W3a", "bf16", 1)))
    for label in ("a", "b"):
        plan.append((f"W5 engine f32 {label}", engine("text", "f32", "--repeat", "7")))
        if label == "a":
            plan.append(("W5 diffusers fp32", peer("text", "fp32", 7)))
            plan.append(("W5 diffusers bf16", peer("text", "bf16", 3)))
    plan.append(("first step AnimateDiff engine", lambda: first_engine(model)))
    for mode in ("fp32", "bf16"):
        plan.append((f"first step AnimateDiff diffusers {mode}", lambda m=mode: first_diffusers(model, m)))
    if options.sdcpp:
        one = ["--frames", "1", "--width", "256", "--height", "256"]
        plan.append(("W6 engine f32", engine("step", "f32", "--repeat", "5", size=one)))
        plan.append(("W6 engine int8", engine("step", "int8", "--repeat", "5", size=one)))
        plan.append(("W6 decode engine f32", engine("vae-decode", "f32", "--repeat", "3", size=one, of=decode)))
        for name in ("sd15 f16", "sd15 f16 direct", "sd15 q8_0", "sd15 f32"):
            plan.append((f"W6 sd.cpp {name[5:]}",
                         [sys.executable, f"{options.peers}/bench_sdcpp.py", options.models, options.sdcpp, "--only",
                          name, "--threads", str(options.threads), "--limit", str(options.limit)]))
    return plan


def decode_seconds(results):
    """stable-diffusion.cpp's decode of its one picture, the best of its runs."""
    found = []
    for row, result in results.items():
        for note in result.get("notes") or [] if row.startswith("W6 sd.cpp") else []:
            match = re.search(r"latent 1 decoded, taking ([0-9.]+)s|decode_first_stage completed, taking ([0-9.]+)s", note)
            if match:
                found.append(float(match[1] or match[2]))
    return min(found) if found else None


def rows(results, add):
    """The table's rows; `add(name, ours, theirs, bar)` takes patterns of rows."""
    step = "W2 engine {} ."
    add("W2 step, bf16 against diffusers bf16", step.format("bf16"), "W2 diffusers bf16", "1.15")
    add("W2 step, int8 against diffusers bf16", step.format("int8"), "W2 diffusers bf16", "1.4")
    add("W2 step, f32 against diffusers fp32", step.format("f32"), "W2 diffusers fp32", "-")
    add("W2 step, int8 against diffusers fp32", step.format("int8"), "W2 diffusers fp32", "-")
    add("W3a decode, f32 against diffusers bf16", "W3a engine f32 .", "W3a diffusers bf16", "1.35")
    add("W3a decode, f32 against diffusers fp32", "W3a engine f32 .", "W3a diffusers fp32", "-")
    add("W5 two prompts, f32 against diffusers bf16", "W5 engine f32 .", "W5 diffusers bf16", "1.5")
    add("W5 two prompts, f32 against diffusers fp32", "W5 engine f32 .", "W5 diffusers fp32", "-")
    for mode in ("bf16", "fp32"):
        add(f"AnimateDiff, start to first step, against diffusers {mode}", "first step AnimateDiff engine",
            f"first step AnimateDiff diffusers {mode}", "-")
    add("SD1.5 step of one frame (ours with motion modules) against stable-diffusion.cpp's best",
        "W6 engine (f32|int8)", "W6 sd.cpp .*", "2")


def more(results):
    """Lines that are no ratio of two best times."""
    lines = []
    loads = {mode: results.get(f"first step AnimateDiff diffusers {mode}", {}).get("load_s") for mode in ("fp32", "bf16")}
    start = results.get("first step AnimateDiff engine", {}).get("best_s")
    for mode, load in loads.items():
        if start and load:
            lines.append(f"start to first step {start} s, diffusers' from_pretrained ({mode}) {load} s: 1/{load / start:.1f} (bar 1/8)")
    ours, theirs = results.get("W3a engine f32 a", {}), [results.get(f"W3a diffusers {m}", {}) for m in ("fp32", "bf16")]
    if ours.get("peak_rss_bytes"):
        for result in theirs:
            if result.get("peak_rss_gb"):
                lines.append(f"W3a peak memory {ours['peak_rss_bytes'] / 2**20:.0f} MiB, diffusers {1024 * result['peak_rss_gb']:.0f} "
                             f"MiB: {ours['peak_rss_bytes'] / 2**30 / result['peak_rss_gb']:.2f} (bar 0.5)")
    decode, mine = decode_seconds(results), results.get("W6 decode engine f32", {}).get("best_s")
    if decode and mine:
        lines.append(f"decode of one picture {mine:.2f} s, stable-diffusion.cpp {decode:.2f} s: {decode / mine:.2f} (bar 2)")
    return lines
