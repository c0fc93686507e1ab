"""Known picture filters: the ground truth of the style adapters.  frames [N,3,H,W] in [0,1] -> the same shape."""
import math
import torch
import torch.nn.functional as F


def luma(x):
    return (x * torch.tensor([.299, .587, .114], device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def blur(x, sigma):
    r = max(1, math.ceil(2.5 * sigma))
    k = torch.exp(-.5 * (torch.arange(-r, r + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    k = (k / k.sum()).view(1, 1, -1)
    n, c, h, w = x.shape
    x = F.pad(x.reshape(n * c, 1, h, w), (r, r, r, r), mode="replicate")
    return F.conv2d(F.conv2d(x, k.unsqueeze(2)), k.unsqueeze(3)).view(n, c, h, w)


def ink(x, sigma=1.0, gain=1.0):
    """0 where a dark outline runs, 1 elsewhere: a thresholded difference of Gaussians of the brightness"""
    y = luma(x)
    d = blur(y, sigma) - .96 * blur(y, 1.6 * sigma)
    edges = torch.sigmoid((d - .004 * gain) * 220)
    return edges


def lineart(x):
    """Ink lines and one grey wash on warm paper."""
    y = blur(luma(x), .8)
    wash = .62 + .38 * torch.sigmoid((y - .36) * 24)
    paper = torch.tensor([.98, .95, .87], device=x.device).view(1, 3, 1, 1)
    tint = torch.tensor([.10, .10, .16], device=x.device).view(1, 3, 1, 1)
    k = ink(x) * wash
    return tint + (paper - tint) * k


def duotone(x):
    """Night blue to warm yellow by brightness."""
    y = luma(x)
    y = torch.sigmoid((y - .45) * 7)
    dark, light = (torch.tensor(c, device=x.device).view(1, 3, 1, 1) for c in ([.06, .05, .32], [1.0, .86, .45]))
    return dark + (light - dark) * y


def poster(x):
    """Three flat inks (night blue, vermilion, cream) with dark outlines."""
    y = blur(luma(x), 1.0)
    a, b = torch.sigmoid((y - .32) * 24), torch.sigmoid((y - .60) * 24)
    inks = [torch.tensor(c, device=x.device).view(1, 3, 1, 1) for c in ([.07, .09, .30], [.86, .28, .20], [.99, .92, .74])]
    flat = inks[0] + (inks[1] - inks[0]) * a + (inks[2] - inks[1]) * b
    line = ink(x, 1.2)
    return flat * (.25 + .75 * line)


def oil(x, radius=3):
    """Kuwahara: every pixel takes the mean of the calmest of its four neighbouring squares; colours are strengthened."""
    n, c, h, w = x.shape
    k = radius + 1
    p = F.pad(x, (radius,) * 4, mode="replicate")
    m = F.avg_pool2d(p, k, 1)
    v = (F.avg_pool2d(p * p, k, 1) - m * m).sum(1, keepdim=True)
    corners = [(0, 0), (0, radius), (radius, 0), (radius, radius)]
    means = torch.stack([m[:, :, i:i + h, j:j + w] for i, j in corners])
    calm = torch.stack([v[:, :, i:i + h, j:j + w] for i, j in corners]).argmin(0, keepdim=True)
    y = means.gather(0, calm.expand(1, n, c, h, w))[0]
    grey = luma(y)
    return (grey + (y - grey) * 1.6).clamp(0, 1)


FILTERS = {"lineart": lineart, "duotone": duotone, "poster": poster, "oil": oil}
