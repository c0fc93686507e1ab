"""The engine's coordinate planes (CoordinatePlanes.swift), for models that are told where they are."""
import torch


def with_planes(x):
    """[B,C,F,H,W] -> [B,C+3,F,H,W]: planes x, y, t with values (2i+1)/n - 1 follow the latents. Single frames [B,C,H,W] have t = 0."""
    if x.ndim == 4:
        return with_planes(x.unsqueeze(2)).squeeze(2)
    B, _, T, H, W = x.shape
    x_, y_, t_ = (((2 * torch.arange(n, device=x.device, dtype=x.dtype) + 1) / n - 1) for n in (W, H, T))
    planes = torch.stack([x_.view(1, 1, W).expand(T, H, W), y_.view(1, H, 1).expand(T, H, W), t_.view(T, 1, 1).expand(T, H, W)])
    return torch.cat([x, planes.unsqueeze(0).expand(B, 3, T, H, W)], 1)
