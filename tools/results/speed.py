#!/usr/bin/env python3
"""The speed table of docs/RESULTS.md: the engine beside diffusers (and stable-diffusion.cpp) on one machine.

    tools/results/speed.sh VIDEOLORA --peers DIR --models DIR [--work DIR] [--only ROW …] [--sdcpp SD_CLI]
    tools/results/speed.sh … --table            # prints the table of what is there

--peers is the folder of bench_diffusers.py and bench_sdcpp.py, --models that of wan-full and animatediff-full (make_models.py
MODELS --size full --family wan animatediff --single-file), --tiny that of animatediff-tiny (make_models.py TINY; without it the
autoencoder is measured in the whole model). Every run is one process; its result is one line of WORK/runs.jsonl, and a run that
is there already is not made again, so an interrupted script goes on where it was (--again ROW makes one anew). The runs of one workload stand beside each other, the engine's before and after the peer's, and each side's
best counts. The page cache is warmed before every run of the engine; bench_diffusers.py times its loading with a
cold one and says so (load_s), its steps are after a warm-up.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time

import speed_animatediff

W1 = ["--frames", "17", "--width", "256", "--height", "256"]
ENGINE_PRECISIONS = ("f32", "bf16", "int8")


def runs(options):
    """Every run in order: (row, engine or peer, command or function)."""
    wan = f"{options.models}/wan-full"

    def engine(workload, precision, *extra):
        return [options.videolora, "bench", "--model", wan, "--workload", workload, "--precision", precision, *W1,
                "--json", *extra]

    def peer(workload, mode, repeats):
        return [sys.executable, f"{options.peers}/bench_diffusers.py", options.models, "--only", workload, "--modes",
                mode, "--n", str(repeats), "--limit", str(options.limit), "--threads", str(options.threads)]

    plan = [("ceilings", [sys.executable, f"{options.peers}/bench_diffusers.py", options.models, "--only", "ceilings",
                          "--threads", str(options.threads)])]
    for label in ("a", "b"):
        for precision in ENGINE_PRECISIONS:
            plan.append((f"W1 engine {precision} {label}", engine("step", precision, "--repeat", "3")))
        if label == "a":
            plan.append(("W1 diffusers fp32", peer("W1", "fp32", 3)))
            plan.append(("W1 diffusers bf16", peer("W1", "bf16", 3)))
    for precision in ENGINE_PRECISIONS[:2]:
        lora = ["--lora", f"{options.work}/lora.safetensors=0.7", "--repeat", "3"]
        plan.append((f"W1 engine {precision} lora", engine("step", precision, *lora)))
        plan.append((f"W1 engine {precision} c", engine("step", precision, "--repeat", "3")))
    for label in ("a", "b"):
        for precision in ENGINE_PRECISIONS[:2]:
            plan.append((f"W3b engine {precision} {label}", engine("vae-decode", precision, "--repeat", "2")))
        if label == "a":
            plan.append(("W3b diffusers fp32", peer("W3b", "fp32", 2)))
            plan.append(("W3b diffusers bf16", peer("W3b", "bf16", 2)))
    for precision in ENGINE_PRECISIONS[:2]:
        plan.append((f"first step engine {precision}", lambda p=precision: first_engine(options, p)))
    for mode in ("bf16", "fp32"):
        plan.append((f"first step diffusers {mode}", lambda m=mode: first_diffusers(options, m)))
    if options.benchmarks:
        plan.append(("kernels", [options.benchmarks, "--only", "attention", "--json"]))
    if options.sdcpp:
        for name in ("wan f16", "wan f16 fa", "wan q8_0", "wan q8_0 fa"):
            plan.append((f"W1 sd.cpp {name[4:]}",
                         [sys.executable, f"{options.peers}/bench_sdcpp.py", options.models, options.sdcpp, "--only",
                          name, "--threads", str(options.threads), "--limit", str(options.limit)]))
    plan += speed_animatediff.runs(
        options, lambda model: first_animatediff(options, model),
        lambda model, mode: first_diffusers_animatediff(options, model, mode))
    return plan


# ---------------------------------------------------------------------------------------------- running


def warm(folder):
    """Reads a folder's files, so that they are in the page cache."""
    buffer = bytearray(1 << 23)
    for root, _, names in os.walk(folder):
        for name in names:
            with open(f"{root}/{name}", "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def measure(options, row, command):
    if "engine" in row:
        is_wan = row.startswith(("W1", "W3b", "first step engine"))
        for part in ("transformer", "vae") if is_wan else ("unet", "motion_adapter", "vae", "text_encoder"):
            warm(f"{options.models}/{'wan' if is_wan else 'animatediff'}-full/{part}")
    start = time.time()
    if callable(command):
        result = command()
    else:
        try:
            # Time to load and to warm up comes on top of the peer's own limit.
            done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit + 120)
            text = [line for line in done.stdout.splitlines() if line.startswith("{")]
            whole = done.stdout.strip()
            if whole.startswith("{") and not text[1:]:
                result = json.loads(whole)
            elif whole.startswith("{"):
                result = json.loads(whole) if done.returncode == 0 and is_json(whole) else json.loads(text[-1])
            else:
                result = {"error": (done.stderr or done.stdout).strip()[-300:] or f"exit {done.returncode}"}
        except subprocess.TimeoutExpired:
            result = {"error": f"longer than {options.limit + 120} s"}
    return {"row": row, "at": time.strftime("%H:%M:%S", time.gmtime(start)), "wall_s": round(time.time() - start, 1),
            "result": result}


def is_json(text):
    try:
        json.loads(text)
        return True
    except ValueError:
        return False


# ---------------------------------------------------------------------------------------------- first step


def embeddings(options):
    """Embeddings of a prompt and its opposite, as a file that both sides read."""
    path = f"{options.work}/embeddings.safetensors"
    if not os.path.exists(path):
        import numpy
        values = numpy.random.default_rng(0).standard_normal((2, 1, 512, 4096)).astype("<f4")
        write(path, {"prompt_embeds": values[0], "negative_prompt_embeds": values[1]})
    return path


def adapter(options):
    """A rank-16 LoRA on every attention layer of wan-full, random."""
    path = f"{options.work}/lora.safetensors"
    if not os.path.exists(path):
        import numpy
        with open(f"{options.models}/wan-full/transformer/config.json") as file:
            config = json.load(file)
        width = config["num_attention_heads"] * config["attention_head_dim"]
        random = numpy.random.default_rng(1)
        tensors = {}
        for block in range(config["num_layers"]):
            for attention in ("attn1", "attn2"):
                for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                    name = f"transformer.blocks.{block}.{attention}.{layer}"
                    for part, shape in (("lora_A", (16, width)), ("lora_B", (width, 16))):
                        tensors[f"{name}.{part}.weight"] = (0.01 * random.standard_normal(shape)).astype("<f4")
        write(path, tensors)
    return path


def write(path, tensors):
    """A safetensors file of f32 arrays."""
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            file.write(value.tobytes())
    os.replace(path + ".part", path)


def first_engine(options, precision):
    """Seconds from the start of gst-launch-1.0 to the element's message that its first denoising step begins."""
    wan = f"{options.models}/wan-full"
    launch = (f"gst-launch-1.0 -m videotestsrc num-buffers=17 ! "
              f"video/x-raw,format=RGB,width=256,height=256,framerate=16/1 ! videolora model={wan} "
              f"prompt-embeds={embeddings(options)} precision={precision} clip-length=17 overlap=1 strength=1 "
              f"steps=2 ! fakesink").split()
    environment = dict(os.environ, GST_PLUGIN_PATH=os.path.dirname(options.videolora))
    return best_first(launch, environment, lambda line: "step 0 of" in line, options)


DIFFUSERS = """
import sys, torch
torch.set_num_threads(int(sys.argv[4]))
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file
folder, embeddings, dtype = sys.argv[1], sys.argv[2], getattr(torch, sys.argv[3])
transformer = WanTransformer3DModel.from_pretrained(folder + "/transformer", dtype=dtype)
vae = AutoencoderKLWan.from_pretrained(folder + "/vae", dtype=dtype)
scheduler = UniPCMultistepScheduler.from_pretrained(folder + "/scheduler")
pipeline = WanPipeline(None, None, vae, scheduler, transformer=transformer)
def begun(*_):
    print("FIRST", flush=True)
    sys.stdin.read()
transformer.register_forward_pre_hook(begun)
tensors = {name: value.to(dtype) for name, value in load_file(embeddings).items()}
pipeline(**tensors, height=256, width=256, num_frames=17, num_inference_steps=2, guidance_scale=5.0)
"""


def first_diffusers(options, mode):
    """The same for diffusers' WanPipeline: from the start of Python to the transformer's first call."""
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[mode]
    for part in ("transformer", "vae"):
        warm(f"{options.models}/wan-full/{part}")
    command = [sys.executable, "-c", DIFFUSERS, f"{options.models}/wan-full", embeddings(options), dtype,
               str(options.threads)]
    return best_first(command, dict(os.environ), lambda line: line.startswith("FIRST"), options)


def first_animatediff(options, model):
    """The same for AnimateDiff, text to video with guidance."""
    launch = ["gst-launch-1.0", "-m", "videolorasrc", f"model={model}", "prompt=a red fox", "clip-length=16", "steps=2",
              "num-clips=1", "!", "video/x-raw,width=256,height=256", "!", "fakesink"]
    environment = dict(os.environ, GST_PLUGIN_PATH=os.path.dirname(options.videolora))
    return best_first(launch, environment, lambda line: "step 0 of" in line, options)


def first_diffusers_animatediff(options, model, mode):
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[mode]
    for part in ("unet", "motion_adapter", "vae", "text_encoder"):
        warm(f"{model}/{part}")
    loads = []

    def is_first(line):
        if line.startswith("LOADED"):
            loads.append(float(line.split()[1]))
        return line.startswith("FIRST")

    command = [sys.executable, "-c", speed_animatediff.FIRST, model, dtype, str(options.threads)]
    return dict(best_first(command, dict(os.environ), is_first, options), load_s=min(loads[1:] or loads, default=None))


def best_first(command, environment, is_first, options):
    times = []
    for _ in range(4):
        start = time.time()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace")
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if is_first(line):
                    times.append(time.time() - start)
                    break
                if time.time() - start > options.limit:
                    break
        finally:
            process.kill()
            process.wait()
        if not times:
            return {"error": "".join(lines)[-300:]}
    # The first run warms the cache.
    return {"best_s": round(min(times[1:] or times), 2), "times": [round(value, 2) for value in times]}


# ---------------------------------------------------------------------------------------------- the table


def seconds(results, pattern):
    """The best seconds of the rows that match, or the reason why there are none."""
    found, errors = [], []
    for row, result in results.items():
        if not re.fullmatch(pattern, row):
            continue
        if result.get("best_s") is not None:
            found.append(float(result["best_s"]))
        else:
            errors.append(str(result.get("error") or result.get("tail") or "no figure").splitlines()[-1])
    if found:
        return min(found), ""
    return None, errors[0] if errors else "not run"


def table(results):
    def shown(pattern):
        value, reason = seconds(results, pattern)
        return f"{value:.2f} s" if value is not None else reason[-70:]

    def ratio(ours, theirs):
        (a, _), (b, why) = seconds(results, ours), seconds(results, theirs)
        if a is not None and b is not None:
            return f"{b / a:.2f}"
        limit = re.search(r"longer than (\d+)", why)
        return f"> {int(limit.group(1)) / a:.1f}" if a is not None and limit else "-"

    lines = ["| workload | engine | peer | ratio | bar |", "|---|---|---|---|---|"]

    def add(name, ours, theirs, bar):
        lines.append(f"| {name} | {shown(ours)} | {shown(theirs)} | {ratio(ours, theirs)} | {bar} |")

    w1 = "W1 engine {} [abc]"
    add("W1 step, bf16 against diffusers bf16", w1.format("bf16"), "W1 diffusers bf16", "1.2")
    add("W1 step, int8 against diffusers bf16", w1.format("int8"), "W1 diffusers bf16", "1.9")
    add("W1 step, f32 against diffusers fp32", w1.format("f32"), "W1 diffusers fp32", "1.1")
    add("W1 step, bf16 against diffusers fp32", w1.format("bf16"), "W1 diffusers fp32", "-")
    add("W1 step, int8 against diffusers fp32", w1.format("int8"), "W1 diffusers fp32", "-")
    add("W3b decode, bf16 against diffusers bf16", "W3b engine bf16 .", "W3b diffusers bf16", "1.35")
    add("W3b decode, bf16 against diffusers fp32", "W3b engine bf16 .", "W3b diffusers fp32", "-")
    add("W3b decode, f32 against diffusers fp32", "W3b engine f32 .", "W3b diffusers fp32", "-")
    add("start to first step, bf16", "first step engine bf16", "first step diffusers bf16", "4")
    add("start to first step, f32", "first step engine f32", "first step diffusers fp32", "4")
    add("W1 step, bf16 against stable-diffusion.cpp f16 (best)", w1.format("bf16"), "W1 sd.cpp f16.*", "2.3")
    add("W1 step, int8 against stable-diffusion.cpp q8_0 (best)", w1.format("int8"), "W1 sd.cpp q8_0.*", "3.5")
    for precision in ENGINE_PRECISIONS[:2]:
        with_, _ = seconds(results, f"W1 engine {precision} lora")
        without, _ = seconds(results, f"W1 engine {precision} c")
        share = f"+{100 * (with_ / without - 1):.1f} %" if with_ and without else "-"
        lines.append(f"| W1 step, {precision}, rank-16 LoRA over none | {shown(f'W1 engine {precision} lora')} | "
                     f"{shown(f'W1 engine {precision} c')} | {share} | 4 % |")
    speed_animatediff.rows(results, add)
    print("\n".join(lines))
    for line in speed_animatediff.more(results):
        print(line)

    print("\n| run | best s | GFLOP/s | ceiling, same run | share | peak RSS MiB | load s |\n|---|---|---|---|---|---|---|")
    for row, result in results.items():
        if row in ("ceilings", "kernels") or row.startswith("first"):
            continue
        if result.get("best_s") is None:
            print(f"| {row} | {str(result.get('error') or result.get('tail') or '-').splitlines()[-1][-80:]} | | | | | |")
            continue
        rss = result.get("peak_rss_bytes", 0) / (1 << 20) or result.get("peak_rss_gb", 0) * 1024
        ceiling = result.get("ceiling_gflops")
        gflops = result.get("gflops")
        print(f"| {row} | {float(result['best_s']):.2f} | {gflops and round(gflops, 1) or '-'} | "
              f"{ceiling and round(ceiling, 1) or '-'} | {ceiling and f'{100 * gflops / ceiling:.0f} %' or '-'} | "
              f"{rss:.0f} | {result.get('load_s', '-') if not isinstance(result.get('load_s'), float) else round(result['load_s'], 2)} |")
    if "ceilings" in results:
        print("\ntorch's and OpenBLAS's ceilings, GFLOP/s: " + ", ".join(
            f"{name} {value}" for name, value in results["ceilings"].get("gflops", {}).items()))
    if "kernels" in results:
        print("\nkernels: " + json.dumps(results["kernels"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videolora")
    parser.add_argument("--peers", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--tiny", help="folder of animatediff-tiny")
    parser.add_argument("--work", default="out/speed")
    parser.add_argument("--only", nargs="*", default=[], help="rows that begin so")
    parser.add_argument("--again", nargs="*", default=[], help="rows that begin so are made anew")
    parser.add_argument("--sdcpp", help="sd-cli of stable-diffusion.cpp")
    parser.add_argument("--benchmarks", help="executable of Benchmarks/")
    parser.add_argument("--limit", type=int, default=900, help="seconds for one run of a peer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--calls", type=int, default=2, help="timed calls of AnimateDiff's step, on both sides")
    parser.add_argument("--runner", default="", help="command put before every run, such as one that waits for quiet")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    for name in ("peers", "models", "tiny", "work", "videolora", "sdcpp", "benchmarks"):
        value = getattr(options, name)
        setattr(options, name, os.path.abspath(value) if value else value)
    os.makedirs(options.work, exist_ok=True)
    log = f"{options.work}/runs.jsonl"
    results = {}
    if os.path.exists(log):
        with open(log) as file:
            for line in file:
                entry = json.loads(line)
                results[entry["row"]] = entry["result"]
    if not options.table:
        embeddings(options)
        adapter(options)
        for row, command in runs(options):
            if options.only and not any(row.startswith(wanted) for wanted in options.only):
                continue
            if row in results and not any(row.startswith(wanted) for wanted in options.again):
                continue
            if options.runner and not callable(command):
                command = options.runner.split() + command
            print(f"{time.strftime('%H:%M:%S')} {row} …", file=sys.stderr, flush=True)
            entry = measure(options, row, command)
            results[row] = entry["result"]
            with open(log, "a") as file:
                file.write(json.dumps(entry) + "\n")
            best = entry["result"].get("best_s")
            print(f"         {best} s" if best else f"         {entry['result'].get('error', 'done')}", file=sys.stderr)
    table(results)


if __name__ == "__main__":
    main()
