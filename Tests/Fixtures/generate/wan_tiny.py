"""A two-block random WanTransformer3DModel in diffusers' layout, with expected outputs of diffusers in the layout that
`videolora replay` reads: wan_tiny/ (model), wan_tiny_golden.safetensors + .json, wan_tiny_loras/.

Cases: forward, forward2, t2v.flowmatch (latents and steps), lora.<file>.<i>, lora.two.<i>.  `floor` is the model's own relative
response to a 1e-6 change of its input; a port in float32 lands within 100 floors."""
import json
import os
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from safetensors.torch import save_file
from common import ROOT, generator, write, write_text

torch.manual_seed(5)
torch.set_num_threads(1)
g = generator(10)
randn = lambda *s: torch.randn(*s, generator=g)
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2")

model = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=16, in_channels=16, out_channels=16,
                              text_dim=24, freq_dim=32, ffn_dim=80, num_layers=2, cross_attn_norm=True,
                              qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=256).eval().requires_grad_(False)
for name, p in model.named_parameters():
    if p.ndim == 1:
        p.copy_((1.0 if name.endswith(("norm_q.weight", "norm_k.weight", "norm2.weight")) else 0.0) + 0.1 * randn(*p.shape))
    elif "scale_shift_table" in name:
        p.copy_(0.3 * randn(*p.shape))
    else:
        p.copy_(randn(*p.shape) / p[0].numel() ** 0.5)
model.save_pretrained(os.path.join(ROOT, "wan_tiny/transformer"))
os.chmod(os.path.join(ROOT, "wan_tiny/transformer/diffusion_pytorch_model.safetensors"), 0o644)
write_text("wan_tiny/scheduler/scheduler_config.json", json.dumps(
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 5.0}, indent=1) + "\n")
write_text("wan_tiny/model_index.json", json.dumps({
    "_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "vae": [None, None]}, indent=1) + "\n")


def text(batch, length, words):
    e = randn(batch, length, 24)
    e[:, words:] = 0
    return e


def call(x):
    return model(x["latents"], x["timestep"], x["embeds"], return_dict=False)[0]


inputs = {"forward": dict(latents=randn(1, 16, 3, 4, 6), timestep=torch.tensor([417]), embeds=text(1, 12, 7)),
          "forward2": dict(latents=randn(2, 16, 2, 6, 8), timestep=torch.tensor([999, 14]), embeds=text(2, 12, 12))}
tensors, cases = {}, {}


def floor(run, x):
    a, b = run(x), run(x * (1 + 1e-6 * torch.randn(x.shape, generator=generator(11))))
    return float((a - b).abs().max() / a.abs().max())


for name, x in inputs.items():
    for k, v in x.items():
        tensors[f"{name}.in.{k}"] = v
    tensors[f"{name}.out.sample"] = call(x)
    cases[name] = {"floor": floor(lambda z: call({**x, "latents": z}), x["latents"])}

embeds, negative, start = text(1, 12, 9), text(1, 12, 4), randn(1, 16, 3, 4, 6)


def t2v(x):
    s = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0)
    s.set_timesteps(4)
    after = []
    for t in s.timesteps:
        v, u = (model(x, t.expand(1), e, return_dict=False)[0] for e in (embeds, negative))
        x = s.step(u + 5.0 * (v - u), t, x, return_dict=False)[0]
        after.append(x)
    return torch.stack(after)


steps = t2v(start)
for k, v in (("in.embeds", embeds), ("in.negative", negative), ("in.latents", start), ("out.steps", steps), ("out.latents", steps[-1])):
    tensors[f"t2v.flowmatch.{k}"] = v
cases["t2v.flowmatch"] = dict(guidance=5.0, steps=4, frames=9, height=32, width=48, scheduler="FlowMatchEulerDiscreteScheduler",
                              changed={"shift": 5.0}, floor=floor(lambda z: t2v(z)[-1], start))

targets = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("blocks.") and n.endswith(LAYERS)]
files = {"peft": (4, None), "peft_alpha": (4, 8.0)}


def lora(rank):
    out = {}
    for n in targets:
        w = model.get_submodule(n).weight
        out[n] = randn(rank, w.shape[1]) / w.shape[1] ** 0.5, randn(w.shape[0], rank) * 0.2
    return out


os.makedirs(os.path.join(ROOT, "wan_tiny_loras"), exist_ok=True)
deltas = {}
for name, (rank, alpha) in files.items():
    pairs = lora(rank)
    sd = {}
    for n, (a, b) in pairs.items():
        sd[f"transformer.{n}.lora_A.weight"], sd[f"transformer.{n}.lora_B.weight"] = a, b
    meta = {"format": "pt"}
    if alpha is not None:
        meta["lora_adapter_metadata"] = json.dumps({"transformer.r": rank, "transformer.lora_alpha": alpha,
                                                    "transformer.target_modules": targets})
    path = os.path.join(ROOT, f"wan_tiny_loras/wan_tiny.{name}.safetensors")
    save_file(sd, path, meta)
    os.chmod(path, 0o644)
    deltas[name] = {n: (b @ a) * ((alpha or rank) / rank) for n, (a, b) in pairs.items()}


def with_adapters(which):
    import peft  # noqa: F401  (diffusers needs it)
    for name, _ in which:
        path = os.path.join(ROOT, f"wan_tiny_loras/wan_tiny.{name}.safetensors")
        from safetensors import safe_open
        with safe_open(path, "pt") as f:
            sd, meta = {k: f.get_tensor(k) for k in f.keys()}, f.metadata()
        extra = {}
        if "lora_adapter_metadata" in meta:
            extra["metadata"] = json.loads(meta["lora_adapter_metadata"])
        model.load_lora_adapter(sd, prefix="transformer", adapter_name=name, **extra)
    model.set_adapters([n for n, _ in which], [s for _, s in which])
    y = call(inputs["forward"])
    for name, _ in which:
        model.delete_adapters(name)
    return y


def merged(which):
    for n in targets:
        model.get_submodule(n).weight.add_(sum(s * deltas[name][n] for name, s in which))
    y = call(inputs["forward"])
    for n in targets:
        model.get_submodule(n).weight.sub_(sum(s * deltas[name][n] for name, s in which))
    return y


def adapter_case(name, which):
    y, own = with_adapters(which), merged(which)
    assert (y - own).abs().max() < 1e-5 * y.abs().max(), name
    tensors[f"{name}.out.sample"] = y
    cases[name] = {"adapters": [[f"wan_tiny.{n}.safetensors", s] for n, s in which], "floor": cases["forward"]["floor"]}


base = call(inputs["forward"])
for name in files:
    for i, s in enumerate((1.0, 0.5, -0.75)):
        adapter_case(f"lora.{name}.{i}", [(name, s)])
for i, (s, t) in enumerate(((1.0, 1.0), (0.8, -0.5), (0.0, 1.3))):
    adapter_case(f"lora.two.{i}", [("peft", s), ("peft_alpha", t)])
assert (call(inputs["forward"]) - base).abs().max() < 1e-5
write("wan_tiny_golden.safetensors", tensors)
write_text("wan_tiny_golden.json", json.dumps({"model": "wan_tiny", **cases}, indent=1) + "\n")
