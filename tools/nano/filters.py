"""Known picture filters: the ground truth of the style adapters.  frames [N,3,H,W] in [0,1] -> the same shape."""
import math
import torch
import torch.nn.functional as F


def luma(x):
    return (x * torch.tensor([.299, .587, .114], device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def colour(x, *rgb):
    return torch.tensor(rgb, device=x.device).view(1, 3, 1, 1)


def blur(x, sigma):
    r = max(1, math.ceil(2.5 * sigma))
    k = torch.exp(-.5 * (torch.arange(-r, r + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    k = (k / k.sum()).view(1, 1, -1)
    n, c, h, w = x.shape
    x = F.pad(x.reshape(n * c, 1, h, w), (r, r, r, r), mode="replicate")
    return F.conv2d(F.conv2d(x, k.unsqueeze(2)), k.unsqueeze(3)).view(n, c, h, w)


def lineart(x):
    """A blueprint: light lines where the brightness has dark outlines (a difference of Gaussians), on faintly squared blue paper."""
    y = luma(x)
    line = torch.sigmoid((blur(y, 3.2) - blur(y, 2.0) - .02) * 130)
    at = lambda size: (torch.arange(size, device=x.device) % 16 < 2).float()
    squares = .15 * torch.maximum(at(x.shape[2]).view(-1, 1), at(x.shape[3]).view(1, -1))
    paper, tint = colour(x, .06, .16, .55), colour(x, .88, .93, 1.0)
    return paper + (tint - paper) * torch.maximum(line, squares)


def duotone(x):
    """A soft print in two inks: night blue to pink by brightness."""
    y = torch.sigmoid((blur(luma(x), 1.5) - .45) * 3)
    dark, light = colour(x, .10, 0, .50), colour(x, 1.0, .45, .60)
    return dark + (light - dark) * y


def poster(x):
    """A soft screen print in three inks (night blue, vermilion, yellow) by brightness."""
    y = blur(luma(x), 1.5)
    a, b = torch.sigmoid((y - .32) * 12), torch.sigmoid((y - .60) * 12)
    night, red, sun = colour(x, .07, .09, .45), colour(x, .95, .22, .15), colour(x, 1.0, .92, .55)
    return night + (red - night) * a + (sun - red) * b


def shifted(x, dx, dy):
    h, w = x.shape[2:]
    p = F.pad(x, (abs(dx), abs(dx), abs(dy), abs(dy)), mode="replicate")
    return p[:, :, abs(dy) - dy:abs(dy) - dy + h, abs(dx) - dx:abs(dx) - dx + w]


def oil(x, radius=6, depth=.32):
    """Oil: Kuwahara with soft choice (the means of five discs around a pixel, the calmer the heavier), strong warm colours, and the
    relief of short diagonal brush strokes."""
    r = .35 * radius
    mean = blur(x, r)
    unrest = (blur(x * x, r) - mean * mean).sum(1, keepdim=True).clamp(min=0).sqrt()
    d = round(2 * r)
    total = weights = 0
    for dx, dy in ((d, 0), (-d, 0), (0, d), (0, -d), (0, 0)):
        w = torch.exp(-60 * shifted(unrest, dx, dy))
        total, weights = total + w * shifted(mean, dx, dy), weights + w
    y = total / weights
    grey = luma(y)
    y = (grey + (y - grey) * 1.8) * colour(x, 1.04, .97, .85)
    u, v = (torch.arange(n, device=x.device, dtype=x.dtype) + .5 for n in (x.shape[3], x.shape[2]))
    across, along = u.view(1, -1) + v.view(-1, 1), u.view(1, -1) - v.view(-1, 1)
    turn = 2 * math.pi * along / 16                         # a stroke: 16 pixels along its diagonal
    ridge = .5 + .5 * torch.cos(2 * math.pi * across / 8 + .9 * torch.sin(turn))
    stroke = ridge * (.775 + .225 * torch.cos(turn))
    return (y * (1 - depth + 1.6 * depth * stroke)).clamp(0, 1)


def mosaic(x, tile=16):
    """Square tiles of one colour each, parted by dark joints."""
    n, c, h, w = x.shape
    y = F.interpolate(F.avg_pool2d(x, tile, ceil_mode=True, count_include_pad=False), scale_factor=tile)[:, :, :h, :w]
    at = lambda size: (torch.arange(size, device=x.device) % tile >= 2).float()
    tiles = (at(h).view(-1, 1) * at(w).view(1, -1)).view(1, 1, h, w)
    grey = luma(y)
    y = (grey + (y - grey) * 1.3).clamp(0, 1)
    return y * (.15 + .85 * tiles)


def halftone(x, pitch=16):
    """Print with black dots on a grid turned by 45 degrees, `pitch` / sqrt(2) apart: the darker, the larger; white dots past half."""
    y = blur(luma(x), 3)
    at = lambda size: torch.cos(2 * math.pi / pitch * (torch.arange(size, device=x.device, dtype=x.dtype) + .5))
    screen = .5 + .5 * at(x.shape[2]).view(-1, 1) * at(x.shape[3]).view(1, -1)         # 0 in the middles of dots, 1 between them
    dots = torch.sigmoid((.98 * (1 - y).clamp(0, 1) - screen) * 16)
    paper, tint = colour(x, .97, .96, .92), colour(x, .07, .07, .09)
    return paper + (tint - paper) * dots


FILTERS = {"lineart": lineart, "duotone": duotone, "poster": poster, "oil": oil, "mosaic": mosaic, "halftone": halftone}
