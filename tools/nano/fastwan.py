"""The forward pass of diffusers' WanTransformer3DModel on its own parameters, with fewer passes over memory.

For training on CPUs.  `python3 fastwan.py` compares it with diffusers (value and gradient).  Differences: q, k and v in one
product; the rotary pairs are stored as halves (the same permutation of q and k leaves their products unchanged); attention as
two plain products, whose backward pass is quicker than the fused kernel's at a few hundred tokens.
"""
import torch
import torch.nn.functional as F


class FastWan:
    """Call like the model: (latents [B,C,F,H,W], t [B] in 0...1000, text [B,S,W]) -> velocity.  Adapters attached with peft
    take part with `strength[name]` (default 1): a number, or a tensor [B,F] with one strength per frame as the engine animates them."""

    def __init__(self, model):
        c = model.config
        self.model, self.heads, self.head = model, c.num_attention_heads, c.attention_head_dim
        self.width, self.patch, self.eps = self.heads * self.head, tuple(c.patch_size), c.eps
        halves = torch.cat([torch.arange(0, self.head, 2), torch.arange(1, self.head, 2)])
        self.order = (torch.arange(self.heads).view(-1, 1) * self.head + halves).flatten()
        self.tables, self.strength = {}, {}

    def _rotary(self, x):
        key = tuple(x.shape[2:])
        if key not in self.tables:
            cos, sin = self.model.rope(x)
            self.tables[key] = cos[..., 0::2].float(), sin[..., 1::2].float()
        return self.tables[key]

    def _weights(self, linear, order=None):
        w, b = linear.weight, linear.bias
        for name in getattr(linear, "active_adapters", []):
            if name in linear.lora_A and not torch.is_tensor(self.strength.get(name)):
                s = self.strength.get(name, 1.0) * linear.scaling[name]
                if s != 0:
                    w = w + s * (linear.lora_B[name].weight @ linear.lora_A[name].weight)
        return (w, b) if order is None else (w[order], b[order])

    def _linear(self, linear, x, order=None):
        """F.linear plus the adapters whose strength differs between frames, evaluated unmerged"""
        y = F.linear(x, *self._weights(linear, order))
        for name in getattr(linear, "active_adapters", []):
            s = self.strength.get(name)
            if name in linear.lora_A and torch.is_tensor(s):
                z = F.linear(F.linear(x, linear.lora_A[name].weight), linear.lora_B[name].weight)
                z = z * s.repeat_interleave(x.shape[1] // s.shape[1], 1).unsqueeze(-1) * linear.scaling[name]
                y = y + (z if order is None else z[..., order])
        return y

    def _heads(self, x):
        return x.view(x.shape[0], -1, self.heads, self.head).transpose(1, 2)

    def _attend(self, q, k, v):
        s = (q * self.head ** -0.5) @ k.transpose(-1, -2)
        o = s.softmax(-1) @ v
        return o.transpose(1, 2).reshape(o.shape[0], -1, self.width)

    def __call__(self, x, t, text):
        m, D = self.model, self.width
        order = self.order.to(x.device)
        cos, sin = self._rotary(x)
        B, C, T, H, W = x.shape
        pt, ph, pw = self.patch
        f, h, w = T // pt, H // ph, W // pw
        tokens = x.reshape(B, C, f, pt, h, ph, w, pw).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(B, f * h * w, -1)
        y = F.linear(tokens, m.patch_embedding.weight.view(D, -1), m.patch_embedding.bias)
        c = m.condition_embedder
        temb = c.time_embedder(c.timesteps_proj(t))
        six = c.time_proj(F.silu(temb)).unflatten(1, (6, D))
        words = c.text_embedder(text)

        def rotate(z):
            z = z.view(B, -1, self.heads, self.head)
            a, b = z.chunk(2, -1)
            return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).transpose(1, 2)

        for block in m.blocks:
            s1, c1, g1, s2, c2, g2 = (v.unsqueeze(1) for v in (block.scale_shift_table + six).unbind(1))
            n = torch.addcmul(s1, F.layer_norm(y, (D,), eps=self.eps), 1 + c1)
            a = block.attn1
            if any(torch.is_tensor(s) for s in self.strength.values()):
                q, k, v = self._linear(a.to_q, n, order), self._linear(a.to_k, n, order), self._linear(a.to_v, n)
            else:
                ws, bs = zip(self._weights(a.to_q, order), self._weights(a.to_k, order), self._weights(a.to_v))
                q, k, v = F.linear(n, torch.cat(ws), torch.cat(bs)).chunk(3, -1)
            q = F.rms_norm(q, (D,), a.norm_q.weight[order], a.norm_q.eps)
            k = F.rms_norm(k, (D,), a.norm_k.weight[order], a.norm_k.eps)
            o = self._attend(rotate(q), rotate(k), self._heads(v))
            y = torch.addcmul(y, self._linear(a.to_out[0], o), g1)
            n = F.layer_norm(y, (D,), block.norm2.weight, block.norm2.bias, eps=self.eps)
            a = block.attn2
            q = F.rms_norm(F.linear(n, *self._weights(a.to_q)), (D,), a.norm_q.weight, a.norm_q.eps)
            k = F.rms_norm(F.linear(words, *self._weights(a.to_k)), (D,), a.norm_k.weight, a.norm_k.eps)
            v = F.linear(words, *self._weights(a.to_v))
            o = self._attend(self._heads(q), self._heads(k), self._heads(v))
            y = y + F.linear(o, *self._weights(a.to_out[0]))
            n = torch.addcmul(s2, F.layer_norm(y, (D,), eps=self.eps), 1 + c2)
            n = F.gelu(self._linear(block.ffn.net[0].proj, n), approximate="tanh")
            y = torch.addcmul(y, self._linear(block.ffn.net[2], n), g2)
        shift, scale = (m.scale_shift_table + temb.unsqueeze(1)).chunk(2, 1)
        y = torch.addcmul(shift, F.layer_norm(y, (D,), eps=self.eps), 1 + scale)
        y = F.linear(y, *self._weights(m.proj_out))
        return y.view(B, f, h, w, pt, ph, pw, -1).permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(B, -1, T, H, W)


def check():
    from nano import build
    torch.manual_seed(0)
    m = build()
    x, t, e = torch.randn(2, 35, 8, 12, 8), torch.rand(2) * 1000, torch.randn(2, 8, 64)
    results = []
    for run in (lambda: m(x, t, e, return_dict=False)[0], lambda: FastWan(m)(x, t, e)):
        m.zero_grad()
        y = run()
        y.pow(2).mean().backward()
        results.append((y.detach(), torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None])))
    for what, a, b in zip(("value", "gradient"), *results):
        print(f"{what}: relative difference {((a - b).norm() / a.norm()).item():.2e}")


if __name__ == "__main__":
    check()
