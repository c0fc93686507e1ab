"""Single operations of torch on small inputs: `<case>.in.<name>` and `<case>.out.y`, with the gradients of sum(y * dy) as
`<case>.out.d<name>` where `<case>.in.dy` is given.  Everything is float32."""
import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from common import generator, write

g, tensors = generator(), {}


def randn(*shape):
    return torch.randn(*shape, generator=g)


def case(name, fn, gradients=True, **inputs):
    leaves = {k: v.clone().requires_grad_(gradients and v.is_floating_point()) for k, v in inputs.items()}
    y = fn(**leaves)
    for k, v in inputs.items():
        tensors[f"{name}.in.{k}"] = v
    tensors[f"{name}.out.y"] = y
    if gradients:
        dy = randn(*y.shape)
        (y * dy).sum().backward()
        tensors[f"{name}.in.dy"] = dy
        for k, v in leaves.items():
            tensors[f"{name}.out.d{k}"] = v.grad


def attention(q, k, v):
    """[B,L,H,D] each -> [B,L,H,D]"""
    return F.scaled_dot_product_attention(*(z.transpose(1, 2) for z in (q, k, v))).transpose(1, 2)


case("linear", lambda x, weight, bias: F.linear(x, weight, bias), x=randn(3, 5, 12), weight=randn(7, 12), bias=randn(7))
case("layer_norm", lambda x: F.layer_norm(x, (24,), eps=1e-6), x=randn(2, 5, 24))
case("layer_norm_affine", lambda x, weight, bias: F.layer_norm(x, (24,), weight, bias, 1e-6),
     x=randn(2, 5, 24), weight=randn(24), bias=randn(24))
case("rms_norm", lambda x, weight: F.rms_norm(x, (24,), weight, 1e-6), x=randn(2, 5, 24), weight=randn(24))
case("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), x=3 * randn(4, 33))
case("silu", lambda x: F.silu(x), x=3 * randn(4, 33))
case("softmax", lambda x: x.softmax(-1), x=4 * randn(3, 17))
case("attention", attention, q=randn(2, 17, 3, 16), k=randn(2, 17, 3, 16), v=randn(2, 17, 3, 16))
case("cross_attention", attention, q=randn(2, 17, 3, 16), k=randn(2, 5, 3, 16), v=randn(2, 5, 3, 16))
for stride in (1, 2):
    case(f"conv2d_stride{stride}", lambda x, weight, bias: F.conv2d(x, weight, bias, stride=stride, padding=1),
         x=randn(2, 5, 9, 12), weight=randn(6, 5, 3, 3), bias=randn(6))
case("conv2d_1x1", lambda x, weight: F.conv2d(x, weight), x=randn(2, 5, 6, 7), weight=randn(8, 5, 1, 1))
case("group_norm", lambda x, weight, bias: F.group_norm(x, 4, weight, bias, 1e-5),
     x=randn(2, 12, 5, 6), weight=randn(12), bias=randn(12))
case("upsample_nearest", lambda x: F.interpolate(x, scale_factor=2), x=randn(2, 3, 4, 5))

# rotary positions of Wan: 4 frames of 3x5 tokens (patch 1x2x2), 3 heads of 16; in.x [B,L,H,D], pairs are neighbours
cos, sin = WanRotaryPosEmbed(16, (1, 2, 2), 64)(torch.zeros(1, 1, 4, 6, 10))


def rope(x):
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


case("rope", rope, x=randn(2, 60, 3, 16))
tensors["rope.out.cos"], tensors["rope.out.sin"] = cos.float(), sin.float()
write("ops.safetensors", tensors)
