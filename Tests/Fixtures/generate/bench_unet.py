"""What diffusers makes of tools/bench-unet/model (bench_unet_golden.safetensors): one call of the denoiser, and four steps with guidance
from given noise to frames. Run again whenever the bench was trained on."""
import json
import os
import sys
import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import load_file
from common import ROOT, generator, write

TOOLS = os.path.join(ROOT, "..", "..", "tools")
sys.path.insert(1, TOOLS)
from planes import with_planes
MODEL = os.path.join(TOOLS, "bench-unet", "model")
CAPTION = ["disc", "flat", "right", "pan_right"]
torch.set_num_threads(1)
torch.set_grad_enabled(False)
model = UNetMotionModel.from_unet2d(
    UNet2DConditionModel.from_pretrained(MODEL + "/unet", torch_dtype=torch.float32),
    MotionAdapter.from_pretrained(MODEL + "/motion_adapter", torch_dtype=torch.float32)).eval()
words = json.load(open(MODEL + "/text_encoder/vocab.json"))
table = load_file(MODEL + "/text_encoder/model.safetensors")["weight"].float()
rows = table[torch.tensor([[words[w] for w in CAPTION] + [0] * 4])]
noise = torch.randn(1, 48, 8, 6, 6, generator=generator(77))


def predict(x, t, rows):
    return model(with_planes(x), t, rows.repeat_interleave(8, 0), return_dict=False)[0]


scheduler = DDIMScheduler.from_pretrained(MODEL + "/scheduler")
scheduler.set_timesteps(4)
x = noise
for t in scheduler.timesteps:
    cond, empty = predict(torch.cat([x, x]), t.expand(2), torch.cat([rows, torch.zeros_like(rows)])).chunk(2)
    x = scheduler.step(empty + 3 * (cond - empty), t, x).prev_sample
frames = torch.nn.functional.pixel_shuffle(x.transpose(1, 2), 4)[0]           # [8, 3, 24, 24]
write("bench_unet_golden.safetensors", {"noise": noise, "output": predict(noise, torch.tensor([700]), rows), "timesteps": scheduler.timesteps.float(),
                                        "frames": frames.permute(0, 2, 3, 1)})
