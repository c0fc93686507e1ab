"""The first inputs of each fuzz target, from the fixtures and from torch; written to corpus/<target>/seed-*."""
import collections
import glob
import io
import json
import os
import pickle
import struct
import tempfile
import zipfile
import sentencepiece
import torch

here = os.path.dirname(os.path.abspath(__file__))
fixtures = os.path.join(here, "../Fixtures")


def put(target, name, data):
    os.makedirs(f"{here}/corpus/{target}", exist_ok=True)
    with open(f"{here}/corpus/{target}/seed-{name}", "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def tensors(entries, metadata=None):
    """A safetensors file of `name: (dtype, bytes per element, shape)`."""
    header, at = ({"__metadata__": metadata} if metadata else {}), 0
    for name, (dtype, size, shape) in entries.items():
        n = size
        for s in shape:
            n *= s
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(i % 7 for i in range(at))


sizes = [("F32", 4), ("F16", 2), ("BF16", 2), ("F64", 8), ("I64", 8), ("I32", 4), ("I16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1)]
put("safetensors", "dtypes", tensors({d: (d, s, [2, 3]) for d, s in sizes}, {"format": "pt", "note": "α\n\"q\""}))
put("safetensors", "shapes", tensors({f"t.{i}": ("BF16", 2, [1] * i) for i in range(9)} | {"empty": ("F32", 4, [0, 3])}))
put("safetensors", "many", tensors({f"{i:x}": ("U8", 1, []) for i in range(150)}))
put("safetensors", "metadata", tensors({}, {f"{i:x}": "" for i in range(800)}))
put("safetensors", "none", tensors({}))

for name in ("wan_tiny/transformer/diffusion_pytorch_model", "wan_tiny/text_encoder/model"):
    with open(f"{fixtures}/{name}.safetensors", "rb") as f:
        names = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    put("safetensors", name.split("/")[1], tensors({k: ("U8", 1, [1] * len(v["shape"])) for k, v in list(names.items())[-40:] if k != "__metadata__"}))
    put("safetensors", "f16-" + name.split("/")[1], tensors({k: ("F16", 2, [min(s, 2) for s in v["shape"]]) for k, v in names.items() if "s.1." not in k and "block.1" not in k and k != "__metadata__"}))

put("index", "good", json.dumps({"metadata": {"total_size": 16}, "weight_map": {"one.weight": "a.safetensors", "two.weight": "b.safetensors"}}))
put("index", "absent", json.dumps({"weight_map": {"one.weight": "c.safetensors"}}))
put("index", "outside", json.dumps({"weight_map": {"one.weight": "../a.safetensors"}}))
put("index", "array", "[" + "0," * 4000 + "0]")
put("index", "nested", "[" + "[0]," * 2000 + "{}]")
put("index", "objects", "[" + '{"":0},' * 1500 + "{}]")
put("index", "deep", '{"a":' * 60 + "1" + "}" * 60)
put("index", "keys", json.dumps({"weight_map": {f"{i:x}": "a.safetensors" for i in range(500)}}))

for path in sorted(glob.glob(f"{fixtures}/tag_model/**/*.json", recursive=True)):
    name = os.path.relpath(path, f"{fixtures}/tag_model")
    text = open(path).read()
    put("config", name.replace("/", "-"), f"{name}\n{text}")
    put("config", "array-" + name.replace("/", "-"), f"{name}\n" + "[" + "0," * 3000 + "0]")
put("config", "vae", "vae/config.json\n" + open(f"{here}/../../models/nano/vae/config.json").read())
for name, path in {"text_encoder/t5.json": "wan_tiny/text_encoder", "vae/wan.json": "autoencoder_kl_wan/vae", "transformer/wan.json": "wan_tiny/transformer"}.items():
    put("config", name.replace("/", "-"), f"{name}\n" + open(f"{fixtures}/{path}/config.json").read())
put("config", "defaults", "model_index.json\n" + json.dumps(json.load(open(f"{fixtures}/tag_model/model_index.json")) | {
    "videolora": {"clip_length": 8, "overlap": 2, "steps": 4, "guidance_scale": 2.5, "width": 32, "height": 32}}))
put("config", "flow", "scheduler/scheduler_config.json\n" + json.dumps({
    "_class_name": "UniPCMultistepScheduler", "flow_shift": 5.0, "use_flow_sigmas": True, "use_karras_sigmas": False, "shift_terminal": None}))

import diffusers  # noqa: E402

for name, options in {
        "FlowMatchEulerDiscreteScheduler": {"shift": 3.0}, "UniPCMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
        "DPMSolverMultistepScheduler": {}, "EulerDiscreteScheduler": {}, "EulerAncestralDiscreteScheduler": {}, "DDIMScheduler": {"rescale_betas_zero_snr": True},
        "LCMScheduler": {}, "CogVideoXDDIMScheduler": {}, "CogVideoXDPMScheduler": {"timestep_spacing": "trailing"}}.items():
    put("scheduler", name, getattr(diffusers, name)(**options).to_json_string())
put("scheduler", "lcm-flow", json.dumps({"_class_name": "FlowMatchLCMScheduler", "shift": 3.0, "num_train_timesteps": 1000}))
put("scheduler", "unipc-noise", diffusers.UniPCMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction").to_json_string())

layers = {"blocks.0.attn1.to_q": (32, 32), "blocks.0.attn2.to_k": (32, 32), "blocks.1.ffn.net.0.proj": (80, 32), "blocks.1.ffn.net.2": (32, 80)}


def adapter(down, up, prefix="", rename=lambda x: x, alpha=None, metadata=None, rank=4):
    entries = {}
    for module, (out, width) in layers.items():
        entries[f"{prefix}{rename(module)}.{down}.weight"] = ("F32", 4, [rank, width])
        entries[f"{prefix}{rename(module)}.{up}.weight"] = ("F32", 4, [out, rank])
        if alpha:
            entries[f"{prefix}{rename(module)}.alpha"] = (alpha[0], alpha[1], [])
    return tensors(entries, metadata)


original = lambda m: m.replace("attn1.to_q", "self_attn.q").replace("attn2.to_k", "cross_attn.k").replace("ffn.net.0.proj", "ffn.0").replace("ffn.net.2", "ffn.2")
put("lora", "peft", adapter("lora_A", "lora_B", "transformer."))
put("lora", "plain", adapter("lora_A", "lora_B"))
put("lora", "alpha", adapter("lora_A", "lora_B", "transformer.", alpha=("F32", 4)))
put("lora", "header", adapter("lora_A", "lora_B", "transformer.", metadata={"lora_adapter_metadata": json.dumps({
    "transformer.r": 4, "transformer.lora_alpha": 8, "transformer.rank_pattern": {"attn1": 4}, "transformer.alpha_pattern": {"ffn": 2}})}))
put("lora", "kohya", adapter("lora_down", "lora_up", "lora_unet_", lambda m: original(m).replace(".", "_"), ("BF16", 2), {"ss_network_alpha": "4", "ss_network_dim": "4"}))
put("lora", "comfy", adapter("lora_down", "lora_up", "diffusion_model.", original))
put("lora", "original", adapter("lora_A", "lora_B", "diffusion_model.", original, ("F16", 2)))
put("lora", "deltas", open(f"{fixtures}/sd15_loras/deltas.safetensors", "rb").read())
put("lora", "diffs", tensors({"diffusion_model.blocks.0.self_attn.q.diff": ("F32", 4, [32, 32]), "diffusion_model.blocks.0.self_attn.q.diff_b": ("F32", 4, [32]),
                              "diffusion_model.blocks.0.self_attn.norm_q.diff": ("F32", 4, [32]), "diffusion_model.blocks.0.ffn.0.lora_up.weight": ("F32", 4, [80, 1]),
                              "diffusion_model.blocks.0.ffn.0.lora_down.weight": ("F32", 4, [1, 32]), "diffusion_model.blocks.0.ffn.0.diff_b": ("F32", 4, [80])}))
for path in sorted(glob.glob(f"{fixtures}/sd15_loras/*.safetensors")):
    with open(path, "rb") as f:
        names = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    meta = names.pop("__metadata__", None)
    put("lora", "names-" + os.path.basename(path)[:-12], tensors({k: ("F16", 2, [min(s, 2) for s in v["shape"]]) for k, v in list(names.items())[:30]}, meta))
put("lora", "rank1", adapter("lora_A.default", "lora_B.default", "base_model.model.", rank=1))

torch.manual_seed(1)
state = collections.OrderedDict(
    [(f"{k}", torch.arange(6).reshape(2, 3).to(d)) for k, d in enumerate((torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool))])
base = torch.arange(16.)
views = {"base": base, "shared": base, "t": base.reshape(4, 4).t(), "step": base[1::3], "expanded": base[:1].expand(3, 1), "p": torch.nn.Parameter(base[2:4])}
module = torch.nn.Linear(2, 1).state_dict()
wrapped = {"state_dict": {f"module.{k}": v for k, v in module.items()}, "epoch": 1, "lr": 0.5, "name": "x", "big": 1 << 40, "opt": [1, (2, None), {"a": True}]}
for name, value in {"state": state, "views": views, "wrapped": wrapped, "model": {"model": module, "n": 1}, "nested": {"a": {"b": {"c": base}}, "l": [base]}}.items():
    for form, options in {"zip": {}, "old": {"_use_new_zipfile_serialization": False}, "p4": {"pickle_protocol": 4}}.items():
        f = io.BytesIO()
        torch.save(value, f, **options)
        put("pickle", f"{name}-{form}", f.getvalue())
        if form != "old":  # the pickle alone, put into an archive by the target
            with zipfile.ZipFile(f) as z:
                put("pickle", f"{name}-{form}-pickle", z.read("archive/data.pkl"))
put("pickle", "protocol0", pickle.dumps({"a": 1, "b": [1.5, None, "x", (True, 2 << 70)]}, 0))
put("pickle", "lists", b"\x80\x02" + b"]" * 4000 + b"a" * 3999 + b".")
put("pickle", "appended", b"\x80\x02](" + b"]Na" * 3000 + b"e.")
put("pickle", "memo", b"\x80\x04](" + b"N\x94" * 3000 + b"e.")
put("pickle", "code", open(f"{fixtures}/pickles/code.pt", "rb").read())

with tempfile.TemporaryDirectory() as folder:
    with open(f"{folder}/text", "w") as f:
        f.write("a red fox and the lazy dog sit under a tree\nthe quick brown fox jumps over the dog\n" * 20)
    with open(f"{folder}/rules", "w") as f:
        f.write("41\t61\nFB01\t66 69\n3000\t20\n")
    forms = {"plain": {"normalization_rule_name": "identity"}, "bytes": {"normalization_rule_name": "identity", "byte_fallback": True, "vocab_size": 310},
             "rules": {"normalization_rule_tsv": f"{folder}/rules"}, "bpe": {"model_type": "bpe", "normalization_rule_name": "identity"}}
    for name, options in forms.items():
        sentencepiece.SentencePieceTrainer.train(**{"input": f"{folder}/text", "model_prefix": f"{folder}/m", "vocab_size": 50, "pad_id": 0, "eos_id": 1, "unk_id": 2,
                                                    "bos_id": -1, "hard_vocab_limit": False, "minloglevel": 2} | options)
        put("tokenizer", name, open(f"{folder}/m.model", "rb").read())
put("tokenizer", "fields", b"\x08\x00" * 3000)
put("tokenizer", "pieces", b"\n\x03\n\x01a" * 1000)
