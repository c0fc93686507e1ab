"""Trains a tiny AnimateDiff-style UNet on the judge kit's procedural clips: the bench on which MotionLoRA is measured.

  python3 pretrain.py --judge DIR --work DIR --out model --image-minutes 8 --minutes 40 [--ranks 2]

diffusers' own classes at tiny size, without an autoencoder: 8 frames of 24x24 pixels as 6x6 latents of 4x4 patches
("pixel_patch" of model_index.json, torch's pixel_unshuffle) with planes of x, y and t beside them. UNet2DConditionModel with
levels of 48 and 64 channels and cross-attention at 3x3, then a MotionAdapter with a module in the middle (v2's layout). Text is the
kit's: a row of a table per word. The clean clip is predicted ("sample"), since 48 channels have no room for the 48 numbers of noise in every patch, over
AnimateDiff's linear beta schedule; the error is weighted as that of v would be.

First --image-minutes on single frames without motion modules, then whole clips with all parameters, --minutes in total. Clips are
the kit's first six object motions and all its cameras, never its held-out seeds. --ranks starts that many one-thread
processes whose gradients are averaged; each has a batch of its own. Minutes are of the first one's processor time, so that neither
pauses nor other jobs shorten the training. Interrupt at will: the same command goes on.
Memory that goes back to the system with every tensor costs a third of the time: MALLOC_MMAP_THRESHOLD_=4294967295
MALLOC_TRIM_THRESHOLD_=34359738368 keep it.
"""
import argparse
import json
import os
import sys
import time
import torch
from safetensors.torch import save_file
sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import ranks
from planes import with_planes

PATCH = 4
UNET = dict(sample_size=6, in_channels=51, out_channels=48, block_out_channels=(48, 64), layers_per_block=1, norm_num_groups=8,
            cross_attention_dim=64, attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
MOTION = dict(block_out_channels=(48, 64), motion_layers_per_block=1, motion_norm_num_groups=8, motion_num_attention_heads=4,
              motion_max_seq_length=32, use_motion_mid_block=True)
SCHEDULER = dict(_class_name="DDIMScheduler", num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="linear",
                 clip_sample=False, set_alpha_to_one=True, steps_offset=0, prediction_type="sample",
                 timestep_spacing="trailing")


def patches(clips):
    """[n, 3, f, h, w] as [n, 48, f, h / 4, w / 4]"""
    return torch.nn.functional.pixel_unshuffle(clips.transpose(1, 2), PATCH).transpose(1, 2)


def batch(W, n, seed, frames=8):
    """Clips and word ids: the kit's base mixture with all its cameras and more clips in which only the camera moves, which is
    what MotionLoRA is asked for and a small part of a clip's error"""
    clips, label = W.clips(n, seed, F=frames, motions=W.BASE_MOTIONS, cameras=W.CAMERAS, still_frac=0.5, static_frac=0.2)
    ids = W.label_tokens(label)
    g = torch.Generator().manual_seed(seed + 7)
    keep, whole = torch.rand(n, 4, generator=g), torch.rand(n, 1, generator=g)
    drop = torch.full((n, 4), 0.05)
    drop[:, 2] = torch.where(label["motion"] == 0, 0.5, 0.05)
    drop[:, 3] = torch.where(label["camera"] == 0, 0.8, 0.03)     # no word: most likely at rest
    ids[:, :4] = ids[:, :4] * (keep > drop)
    return clips, ids * (whole > 0.1)


def export(out, state, table, words, note):
    for d in ("unet", "motion_adapter", "scheduler", "text_encoder"):
        os.makedirs(f"{out}/{d}", exist_ok=True)

    def dump(name, value):
        with open(f"{out}/{name}", "w") as f:
            json.dump(value, f, indent=1)
            f.write("\n")

    def tensors(name, values):
        path = f"{out}/{name}"
        save_file({k: v.detach().bfloat16().contiguous() for k, v in values.items()}, path + ".tmp", {"format": "pt"})
        os.replace(path + ".tmp", path)
        os.chmod(path, 0o644)

    motion = {k: v for k, v in state.items() if "motion_modules." in k}
    tensors("unet/diffusion_pytorch_model.safetensors", {k: v for k, v in state.items() if k not in motion})
    tensors("motion_adapter/diffusion_pytorch_model.safetensors", motion)
    rows = table.detach().clone()
    rows[0] = 0
    tensors("text_encoder/model.safetensors", {"weight": rows})
    dump("unet/config.json", {"_class_name": "UNet2DConditionModel", **UNET})
    dump("motion_adapter/config.json", {"_class_name": "MotionAdapter", **MOTION})
    dump("scheduler/scheduler_config.json", SCHEDULER)
    dump("text_encoder/config.json",
         {"model_type": "tag_table", "vocab_size": len(words), "hidden_size": rows.shape[1], "max_length": 8, "pad_id": 0})
    dump("text_encoder/vocab.json", words)
    dump("model_index.json", {
        "_class_name": "AnimateDiffPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "motion_adapter": ["diffusers", "MotionAdapter"], "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["tags", "TagTable"], "tokenizer": [None, None], "vae": [None, None], "pixel_patch": PATCH,
        "coordinate_planes": "xyt",
        "videolora": {"clip_length": 8, "width": 24, "height": 24, "steps": 20, "guidance_scale": 3, "overlap": 4}, "_note": note})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--judge", required=True, help="folder of the kit: world.py")
    p.add_argument("--work", required=True, help="checkpoints and the log")
    p.add_argument("--out", required=True, help="the model's folder")
    p.add_argument("--image-minutes", type=float, default=8)
    p.add_argument("--minutes", type=float, default=40, help="both parts together")
    p.add_argument("--frames-batch", type=int, default=72)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--shift", type=float, default=2, help="of the noise levels towards high ones")
    p.add_argument("--threads", type=int, default=1, help="of each rank")
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    ranks.start(a)
    sys.path.insert(0, a.judge)
    import world as W
    from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    image = UNet2DConditionModel(**UNET)
    model = UNetMotionModel.from_unet2d(image, MotionAdapter(**MOTION)).to(a.device)
    image = image.to(a.device)
    for name, q in model.named_parameters():                        # motion modules begin as if they were not there
        if "motion_modules" in name and ".proj_out." in name:
            torch.nn.init.zeros_(q)
    table = torch.nn.Embedding(len(W.VOCAB), 64, padding_idx=0).to(a.device)
    beta = torch.linspace(SCHEDULER["beta_start"], SCHEDULER["beta_end"], 1000)
    alpha = torch.cumprod(1 - beta, 0).to(a.device)
    state, log = f"{a.work}/state.pt", open(f"{a.work}/log.jsonl", "a")
    step, spent, begun, part = 0, 0.0, 0, "image"
    clock = time.process_time if a.device == "cpu" else time.time

    def setup(part):
        net = image if part == "image" else model
        named = [(f"m.{k}", q) for k, q in net.named_parameters()] + [("t.weight", table.weight)]
        fresh = [q for k, q in named if "motion_modules" in k]
        known = [q for k, q in named if "motion_modules" not in k]
        factor = 1.0 if part == "image" else 0.6                    # what the pictures taught is changed gently
        groups = [dict(params=known, lr=a.lr * factor, factor=factor)]
        if fresh:
            groups.append(dict(params=fresh, lr=a.lr, factor=1.0))
        return net, named, torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0)

    saved = torch.load(state, map_location=a.device) if os.path.exists(state) else None
    if saved:
        part = saved["part"]
    net, named, adam = setup(part)
    if saved:
        with torch.no_grad():
            for k, q in named:
                q.copy_(saved["values"][k])
        adam.load_state_dict(saved["adam"])
        step, spent, begun = saved["step"], saved["spent"], saved["begun"]
        ema = saved["ema"]
        print(f"goes on at step {step}, {part}", flush=True)
    else:
        ema = {k: q.detach().clone() for k, q in named}

    def save():
        if a.rank:
            return
        torch.save(dict(values={k: q.detach() for k, q in named}, adam=adam.state_dict(), ema=ema, step=step, spent=spent, part=part,
                        begun=begun),
                   state + ".tmp")
        os.replace(state + ".tmp", state)
        if part == "clips":
            export(a.out, {k[2:]: v for k, v in ema.items() if k.startswith("m.")}, ema["t.weight"], W.WORD2ID,
                   f"test bench, pixel space, no autoencoder; {step} steps, {spent / 60:.0f} minutes of {a.ranks} core{'s' * (a.ranks > 1)}")

    own = dict(named)
    losses, tick, last = [], clock(), time.time()
    while spent < a.minutes * 60:
        if part == "image" and spent >= a.image_minutes * 60:
            with torch.no_grad():                                   # the average goes on, with motion modules beside it
                whole = dict(model.named_parameters())
                for k, v in ema.items():
                    (table.weight if k == "t.weight" else whole[k[2:]]).copy_(v)
            part = "clips"
            net, named, adam = setup(part)
            own = dict(named)
            ema, begun = {k: q.detach().clone() for k, q in named}, step
            save()
        left = 1 - (spent / (a.image_minutes * 60) if part == "image" else
                    (spent - a.image_minutes * 60) / max(1, (a.minutes - a.image_minutes) * 60))
        rate = min(1, (step - begun + 1) / 100) * min(1, max(0.02, left / 0.4))
        for group in adam.param_groups:
            group["lr"] = a.lr * group["factor"] * rate
        g = torch.Generator().manual_seed(7_000_003 * a.seed + step + 500_000 * a.rank)
        n = a.frames_batch if part == "image" else a.batch
        clips, ids = batch(W, n // 3 if part == "image" else n, 11_000_027 * a.seed + (step * a.ranks + a.rank) * 131, 3 if part == "image" else 8)
        clips = patches(clips).to(a.device)
        if part == "image":
            clips = clips.transpose(1, 2).flatten(0, 1)
        words = table(ids.to(a.device)).repeat_interleave(clips.shape[0] * (clips.shape[2] if clips.ndim == 5 else 1) // len(ids), 0)
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        u = a.shift * u / (1 + (a.shift - 1) * u)                    # what moves, and where, is decided at high noise
        t = (u * 1000).long().clamp(0, 999).to(a.device)
        noise = torch.randn(clips.shape, generator=g).to(a.device)
        shape = (n,) + (1,) * (clips.ndim - 1)
        signal, share = alpha[t].sqrt().view(shape), (1 - alpha[t]).sqrt().view(shape)
        out = net(with_planes(signal * clips + share * noise), t, words, return_dict=False)[0]
        loss = ((out - clips) / share.clamp(min=0.5)).square().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        used = spent + clock() - tick
        # the first one's time counts, so that all end together
        value, used = ranks.average(a, [q for _, q in named], loss.item(), used * (a.ranks if a.rank == 0 else 0))
        torch.nn.utils.clip_grad_norm_([q for _, q in named], 1.0)
        adam.step()
        decay = min(0.998, (1 + step - begun) / (20 + step - begun))
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.values()), [own[k] for k in ema], 1 - decay)
        step, spent, tick = step + 1, used, tick + used - spent if a.rank == 0 else clock()
        losses.append(value)
        if step % 50 == 0 and a.rank == 0:
            line = json.dumps(dict(step=step, part=part, loss=round(sum(losses) / len(losses), 5), seconds=round(spent)))
            print(line, flush=True)
            print(line, file=log, flush=True)
            losses = []
        if time.time() - last > 120:
            save()
            last = time.time()
    save()


if __name__ == "__main__":
    main()
