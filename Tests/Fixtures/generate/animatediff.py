"""A small random AnimateDiff model in diffusers' layout (weights in bf16), with expected outputs of diffusers and transformers.

animatediff/: UNet, motion adapter, autoencoder, CLIP text encoder with a byte-pair tokenizer, DDIM.
animatediff_golden.safetensors + .json: `text.<i>`, `vae_encode`, `vae_decode`, `t2v.<scheduler>`, `v2v.<scheduler>.<i>` in the layout
that `videolora replay` reads, and `tiled.latents`, `tiled.frames`, `tiled.mean` (the frames encoded again) with tiles of 32 pixels at a stride of 24.
autoencoder_kl_names.json: each tensor's name in Stable Diffusion's own checkpoints, checked against diffusers' conversion of such files.
clip_tokens.json: pairs of a text and its 77 ids by transformers' CLIPTokenizer with the merges of models/tokenizers/clip."""
import json
import os
import sys
import torch
from PIL import Image
from diffusers import (AnimateDiffPipeline, AnimateDiffVideoToVideoPipeline, AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler,
                       MotionAdapter, UNet2DConditionModel)
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from common import ROOT, generator, write, write_text

torch.set_num_threads(1)
torch.set_grad_enabled(False)
g = generator(70)
randn = lambda *s: torch.randn(*s, generator=g)
MODEL = os.path.join(ROOT, "animatediff")
START, END = "<|startoftext|>", "<|endoftext|>"
PROMPTS = ["a red fox walks over snow, film grain", "Two cats DON'T sleep: it's (masterpiece:1.2)!", "café señor über 42  frames <|endoftext|> 漢字 🙂 ½ ﬁne",
           "slow pan " * 60]


def dump(name, value, **options):
    write_text(name, json.dumps(value, ensure_ascii=False, **options) + "\n")


def byte_characters():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table = {b: chr(b) for b in keep}
    for b in range(256):
        table.setdefault(b, chr(256 + len(table) - len(keep)))
    return table, keep + [b for b in range(256) if b not in keep]


def vocabulary(merges):
    table, order = byte_characters()
    symbols = [table[b] for b in order]
    return symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + [START, END]


def learn(words, count):
    """The merges of the most frequent pairs."""
    table, _ = byte_characters()
    split = [[table[b] for b in w.encode()] for w in words]
    split = [w[:-1] + [w[-1] + "</w>"] for w in split]
    merges = []
    for _ in range(count):
        pairs = {}
        for w in split:
            for p in zip(w, w[1:]):
                pairs[p] = pairs.get(p, 0) + 1
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for w in split:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = [w[i] + w[i + 1]]
                i += 1
    return merges


def fill(model, folder, file="diffusion_pytorch_model.safetensors"):
    for name, p in sorted(model.named_parameters()):
        if p.ndim == 1:
            p.copy_((1 if name.endswith("weight") else 0) + 0.1 * randn(*p.shape))
        elif "embedding" in name and "time" not in name:
            p.copy_(0.3 * randn(*p.shape))
        else:
            p.copy_(randn(*p.shape) / p[0].numel() ** 0.5)
        p.copy_(p.bfloat16().float())
    path = os.path.join(MODEL, folder)
    os.makedirs(path, exist_ok=True)
    if hasattr(model, "save_config"):
        model.save_config(path)
    else:
        model.config.save_pretrained(path)
    skipped = ("pos_embed.pe", "position_ids")
    save_file({k: v.bfloat16().contiguous() for k, v in model.state_dict().items() if not k.endswith(skipped)}, os.path.join(path, file), {"format": "pt"})
    for name in os.listdir(path):
        os.chmod(os.path.join(path, name), 0o644)
    return model.eval()


words = "a red fox walks over snow film grain two cats don t sleep it s masterpiece slow pan frames the small boat".split()
merges = learn(words * 2, 40)
vocab = vocabulary(merges)
special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=END)
dump("animatediff/tokenizer/vocab.json", {t: i for i, t in enumerate(vocab)})
write_text("animatediff/tokenizer/merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
dump("animatediff/tokenizer/tokenizer_config.json", dict(tokenizer_class="CLIPTokenizer", model_max_length=77, **special), indent=1)
tokenizer = CLIPTokenizer.from_pretrained(os.path.join(MODEL, "tokenizer"))

text_encoder = fill(CLIPTextModel(CLIPTextConfig(
    vocab_size=len(vocab), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, bos_token_id=0, eos_token_id=2,
    pad_token_id=1)), "text_encoder", "model.safetensors")
vae = fill(AutoencoderKL(
    block_out_channels=(4, 8, 8, 8), layers_per_block=1, norm_num_groups=2, latent_channels=4, down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4, sample_size=64), "vae")
unet = fill(UNet2DConditionModel(
    block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=16, sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")), "unet")
motion = fill(MotionAdapter(
    block_out_channels=(8, 16), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4, use_motion_mid_block=False),
    "motion_adapter")
scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1, set_alpha_to_one=False,
                          timestep_spacing="linspace")
scheduler.save_config(os.path.join(MODEL, "scheduler"))
dump("animatediff/model_index.json", dict(
    _class_name="AnimateDiffPipeline", vae=["diffusers", "AutoencoderKL"], text_encoder=["transformers", "CLIPTextModel"],
    tokenizer=["transformers", "CLIPTokenizer"], unet=["diffusers", "UNet2DConditionModel"], motion_adapter=["diffusers", "MotionAdapter"],
    scheduler=["diffusers", "DDIMScheduler"]), indent=1)
os.chmod(os.path.join(MODEL, "scheduler/scheduler_config.json"), 0o644)

tensors, cases = {}, {}
for i, prompt in enumerate(PROMPTS):
    t = tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    tensors[f"text.{i}.in.ids"], tensors[f"text.{i}.in.mask"] = t.input_ids, t.attention_mask
    tensors[f"text.{i}.out.hidden"] = text_encoder(t.input_ids)[0]
    cases[f"text.{i}"] = {"prompt": prompt}

pictures = randn(2, 3, 32, 40).clamp(-1, 1)
posterior = vae.encode(pictures).latent_dist
latents = randn(2, 4, 4, 5)
tensors |= {"vae_encode.in.video": pictures, "vae_encode.out.mean": posterior.mean, "vae_encode.out.logvar": posterior.logvar,
            "vae_decode.in.latents": latents, "vae_decode.out.frames": vae.decode(latents).sample}
tiled = randn(1, 4, 6, 5)
vae.enable_tiling()
vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor = 32, 4, 0.25
tensors["tiled.latents"] = tiled
tensors["tiled.frames"] = vae.decode(tiled).sample
tensors["tiled.mean"] = vae.encode(tensors["tiled.frames"]).latent_dist.mean
vae.disable_tiling()

FRAMES, HEIGHT, WIDTH, STEPS, GUIDANCE = 4, 32, 40, 3, 4.0
pipe = AnimateDiffPipeline(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, motion_adapter=motion, scheduler=scheduler)
edit = AnimateDiffVideoToVideoPipeline(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, motion_adapter=motion,
                                       scheduler=scheduler)
for p in (pipe, edit):
    p.set_progress_bar_config(disable=True)
embed = lambda p: text_encoder(tokenizer(p, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids)[0]
positive, negative = embed(PROMPTS[0]), embed("slow pan")
start = randn(1, 4, FRAMES, HEIGHT // 8, WIDTH // 8)
video = torch.randint(256, (FRAMES, HEIGHT, WIDTH, 3), generator=g, dtype=torch.uint8)
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


def recorded(case, run):
    """Runs a pipeline with every normal draw written down."""
    import diffusers.utils.torch_utils as utils
    real, count = utils.randn_tensor, [0]

    def record(shape, generator=None, device=None, dtype=None, layout=None):
        x = real(tuple(shape), generator=generator, device=device, dtype=dtype)
        tensors[f"{case}.noise.{count[0]}"] = x
        count[0] += 1
        return x

    modules = [m for k, m in list(sys.modules.items()) if k.startswith("diffusers") and m.__dict__.get("randn_tensor") is real]
    for m in modules:
        m.randn_tensor = record
    try:
        return run()
    finally:
        for m in modules:
            m.randn_tensor = real


def sample(case, pipeline, name, arguments, **info):
    arguments = dict(arguments, prompt_embeds=positive, negative_prompt_embeds=negative, guidance_scale=GUIDANCE, num_inference_steps=STEPS,
                     height=HEIGHT, width=WIDTH)
    pipeline.scheduler = SCHEDULERS[name].from_config(scheduler.config)
    steps = []
    call = lambda **more: pipeline(generator=torch.Generator().manual_seed(5), **arguments, **more).frames
    latents = recorded(case, lambda: call(output_type="latent", callback_on_step_end=lambda p, i, t, k: steps.append(k["latents"].clone()) or {}))
    tensors.update({f"{case}.in.embeds": positive, f"{case}.in.negative": negative, f"{case}.out.steps": torch.stack(steps),
                    f"{case}.out.latents": latents, f"{case}.out.frames": torch.from_numpy(call(output_type="np")[0])})
    cases[case] = dict(guidance=GUIDANCE, steps=STEPS, height=HEIGHT, width=WIDTH, frames=FRAMES, scheduler=SCHEDULERS[name].__name__, changed={}, **info)


for name in SCHEDULERS:
    tensors[f"t2v.{name}.in.latents"] = start
    sample(f"t2v.{name}", pipe, name, dict(latents=start.clone(), num_frames=FRAMES))
for i, strength in enumerate((0.7, 1.0)):
    tensors[f"v2v.euler.{i}.in.video"] = video
    sample(f"v2v.euler.{i}", edit, "euler", dict(video=[Image.fromarray(f.numpy()) for f in video], strength=strength), strength=strength)
write("animatediff_golden.safetensors", tensors)
dump("animatediff_golden.json", cases, indent=1)


def original(name):
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    parts = rest.replace("conv_shortcut", "nin_shortcut").split(".")
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
    if parts[0] == "mid_block":
        if parts[1] == "resnets":
            return ".".join([side, "mid", f"block_{int(parts[2]) + 1}", *parts[3:]])
        return ".".join([side, "mid", "attn_1", attention[parts[3]], parts[-1]])
    if parts[0] in ("down_blocks", "up_blocks"):
        way = parts[0].split("_")[0]
        level = int(parts[1]) if way == "down" else 3 - int(parts[1])
        if parts[2] == "resnets":
            return ".".join([side, way, str(level), "block", *parts[3:]])
        return ".".join([side, way, str(level), way + "sample", *parts[4:]])
    return ".".join([side, *["norm_out" if p == "conv_norm_out" else p for p in parts]])


state = vae.state_dict()
names = {k: original(k) for k in state}
back = convert_ldm_vae_checkpoint({"first_stage_model." + names[k]: (v[:, :, None, None] if v.ndim == 2 else v) for k, v in state.items()}, dict(vae.config))
assert back.keys() == state.keys() and all(torch.equal(back[k].reshape(state[k].shape), state[k]) for k in state)
dump("autoencoder_kl_names.json", names, indent=0)

with open(os.path.join(ROOT, "../../models/tokenizers/clip/merges.txt"), encoding="utf-8") as f:
    merges = [tuple(line.split()) for line in f.read().split("\n")[1:] if line]
real = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary(merges))}, merges=merges)
TEXTS = PROMPTS + [
    "", " ", "A photo of an astronaut riding a horse on mars", "cafe\u0301 CAFÉ İstanbul ǅ ẞ Σίσυφος ΣΑΣ", "they'll we've I'm you'd it's 'tis o'clock don''t 's'",
    "a1b22c333 1/2 ½ ² ٣ Ⅷ 10,000.5 #42", "  white \t space\u00a0of\u3000every\u2003kind\r\nand\u2028lines \x85 end \u200b\u200d\ufeff", "<|startoftext|>x<|endoftext|>y<|END| <|endoftext|",
    "<|ENDOFTEXT|>!? (((neon:1.3))) [blue] {x|y} --ar 16:9 &amp; <lora:foo:0.8>", "漢字かな交じり文 한국어 עברית العربية हिन्दी ไทย 👩‍👩‍👧 🇩🇪 𝒥ohn",
    "pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!!!!!!!!!!!!???", "x" * 300,
    "\x00\x01\x7f\u0080 control", "e\u0323\u0302 \u1100\u1161\u11a8 \u212b ﬁ", "word " * 100]
dump("clip_tokens.json", [[t, real(t, padding="max_length", max_length=77, truncation=True).input_ids] for t in TEXTS], indent=None)
