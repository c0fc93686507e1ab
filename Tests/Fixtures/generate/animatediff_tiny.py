"""A random two-level UNet with motion modules in diffusers' layout (unet/ and motion_adapter/), with expected outputs of diffusers in
the layout that `videolora replay` reads: animatediff_tiny/ (model), animatediff_tiny_golden.safetensors + .json, animatediff_tiny_loras/.

Cases: forward, forward2 (two prompts, odd sizes), lora.<file>.<i>.  `floor` is the model's own relative response to a 1e-6 change
of its input; a port in float32 lands within 100 floors.  Beside them `official.out.sample`: `forward` with the norms of the motion
modules over single frames, as in the official repository's code, and `official_v1.out.sample`: the same with the norms of the residual
blocks over the whole clip."""
import json
import os
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from safetensors.torch import save_file
from common import ROOT, generator, write, write_text

torch.set_num_threads(1)
g = generator(20)
randn = lambda *s: torch.randn(*s, generator=g)
CHANNELS, CROSS = (8, 24), 12


def fill(model):
    for name, p in model.named_parameters():
        if p.ndim == 1:
            p.data.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.1 * randn(*p.shape))
        else:
            p.data.copy_(randn(*p.shape) / p[0].numel() ** 0.5)
    return model.eval().requires_grad_(False)


def save(model, folder):
    path = os.path.join(ROOT, "animatediff_tiny", folder)
    model.save_pretrained(path)
    os.chmod(os.path.join(path, "diffusion_pytorch_model.safetensors"), 0o644)
    return model


image = save(fill(UNet2DConditionModel(
    sample_size=8, in_channels=4, out_channels=4, block_out_channels=CHANNELS, layers_per_block=1, cross_attention_dim=CROSS,
    attention_head_dim=2, norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))), "unet")
motion = save(fill(MotionAdapter(
    block_out_channels=CHANNELS, motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4,
    motion_max_seq_length=8, use_motion_mid_block=True)), "motion_adapter")
model = UNetMotionModel.from_unet2d(image, motion).eval().requires_grad_(False)
write_text("animatediff_tiny/model_index.json", json.dumps({
    "_class_name": "AnimateDiffPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
    "motion_adapter": ["diffusers", "MotionAdapter"], "scheduler": ["diffusers", "DDIMScheduler"], "vae": [None, None],
    "text_encoder": [None, None], "tokenizer": [None, None]}, indent=1) + "\n")
write_text("animatediff_tiny/scheduler/scheduler_config.json", json.dumps({
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear", "clip_sample": False,
    "steps_offset": 1, "set_alpha_to_one": False, "num_train_timesteps": 1000}, indent=1) + "\n")


def call(x):
    embeds = x["embeds"].repeat_interleave(x["latents"].shape[2], 0)
    return model(x["latents"], x["timestep"], encoder_hidden_states=embeds, return_dict=False)[0]


inputs = {"forward": dict(latents=randn(1, 4, 4, 6, 8), timestep=torch.tensor(681), embeds=randn(1, 9, CROSS)),
          "forward2": dict(latents=randn(2, 4, 3, 7, 5), timestep=torch.tensor(21), embeds=randn(2, 9, CROSS))}
tensors, cases = {}, {}
for name, x in inputs.items():
    for k, v in x.items():
        tensors[f"{name}.in.{k}"] = v
    y = tensors[f"{name}.out.sample"] = call(x)
    z = call({**x, "latents": x["latents"] * (1 + 1e-6 * torch.randn(x["latents"].shape, generator=generator(21)))})
    cases[name] = {"floor": float((z - y).abs().max() / y.abs().max())}


class PerFrame(torch.nn.Module):
    """A group norm of [B, C, F, H, W] over single frames."""
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        b, c, f = x.shape[:3]
        return self.norm(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, f)).transpose(1, 2)


class PerClip(torch.nn.Module):
    """A group norm of frames [F, C, H, W] over all of them."""
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.transpose(0, 1)[None])[0].transpose(0, 1)


modules = list(model.modules())
for m in modules:
    if isinstance(m, AnimateDiffTransformer3D):
        m.norm = PerFrame(m.norm)
tensors["official.out.sample"] = call(inputs["forward"])
for m in modules:
    if isinstance(m, ResnetBlock2D):
        m.norm1, m.norm2 = PerClip(m.norm1), PerClip(m.norm2)
model.conv_norm_out = PerClip(model.conv_norm_out)
tensors["official_v1.out.sample"] = call(inputs["forward"])
model = UNetMotionModel.from_unet2d(image, motion).eval().requires_grad_(False)

LINEAR = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
image_layers = [(n, m) for n, m in layers if "attentions." in n and n.endswith(LINEAR) or
                n.endswith(("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "conv_out",
                            "time_emb_proj"))]
motion_layers = [(n, m) for n, m in layers if "motion_modules." in n and n.endswith(LINEAR[:4])]


def processor(n):
    """The official repository's name of a projection of a motion module."""
    n = n.replace(".transformer_blocks.0.attn1.", ".temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.")
    n = n.replace(".transformer_blocks.0.attn2.", ".temporal_transformer.transformer_blocks.0.attention_blocks.1.processor.")
    return n.replace("to_out.0", "to_out") + "_lora"


files = {"kohya_conv": (image_layers, 3, 1.5, lambda n: "lora_unet_" + n.replace(".", "_"), ("lora_down", "lora_up")),
         "motion_original": (motion_layers, 2, None, processor, ("down", "up"))}
os.makedirs(os.path.join(ROOT, "animatediff_tiny_loras"), exist_ok=True)
deltas = {}
for name, (chosen, rank, alpha, key, (down, up)) in files.items():
    sd, deltas[name] = {}, {}
    for n, m in chosen:
        w = m.weight
        a = randn(rank, *w.shape[1:]) / w[0].numel() ** 0.5
        b = randn(w.shape[0], rank, *([1, 1] if w.ndim == 4 else [])) * 0.2
        sd[f"{key(n)}.{down}.weight"], sd[f"{key(n)}.{up}.weight"] = a, b
        if alpha:
            sd[f"{key(n)}.alpha"] = torch.tensor(alpha)
        deltas[name][n] = (b.flatten(1) @ a.flatten(1)).reshape(w.shape) * ((alpha or rank) / rank)
    path = os.path.join(ROOT, f"animatediff_tiny_loras/animatediff_tiny.{name}.safetensors")
    save_file(sd, path)
    os.chmod(path, 0o644)


def adapter_case(name, which):
    for file, s in which:
        for n, d in deltas[file].items():
            model.get_submodule(n).weight.add_(s * d)
    tensors[f"{name}.out.sample"] = call(inputs["forward"])
    for file, s in which:
        for n, d in deltas[file].items():
            model.get_submodule(n).weight.sub_(s * d)
    cases[name] = {"adapters": [[f"animatediff_tiny.{f}.safetensors", s] for f, s in which], "floor": cases["forward"]["floor"]}


for file in files:
    for i, s in enumerate((1.0, -0.75)):
        adapter_case(f"lora.{file}.{i}", [(file, s)])
adapter_case("lora.two.0", [("kohya_conv", 0.8), ("motion_original", -0.5)])
write("animatediff_tiny_golden.safetensors", tensors)
write_text("animatediff_tiny_golden.json", json.dumps({"model": "animatediff_tiny", **cases}, indent=1) + "\n")
