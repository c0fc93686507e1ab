"""Renders training clips: a photo under a smooth camera path, with 0 to 3 moving cut-outs.

Clip i of a seed is always the same clip.  Directions are those of the picture: for pan_left the picture moves right,
for tilt_up it moves down, for zoom_in it grows, for roll_cw it turns clockwise.
"""
import math
import os
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from vocabulary import PHOTO_TAGS

FRAMES = 8
SIZES = [((256, 144), .22), ((144, 256), .03), ((192, 192), .12), ((192, 112), .10), ((160, 160), .10), ((128, 128), .12),
         ((96, 96), .10), ((96, 64), .08), ((64, 96), .04), ((64, 64), .09)]

MOVES = ["pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out"]
# share of clips that move, how far (in frame heights; log zoom), sizes.  `base` for the model, `style` for pairs of style adapters
# (mostly stills, a frame costs an eighth), `camera` for camera adapters: constant speed, one of the six moves (a zoom twice as far: less
# is hardly seen), no moving cut-outs; `still` and `move` add cheap variety to the base
RECIPES = {"base": dict(moving=.4, far=(.05, .45), sizes=SIZES), "style": dict(moving=.2, far=(.05, .3), sizes=SIZES),
           "camera": dict(moving=1, far=(.14, .2), sizes=[((64, 64), .5), ((96, 64), .2), ((64, 96), .1), ((96, 96), .2)])}
RECIPES["still"] = dict(moving=0, far=(0, 0), sizes=SIZES)
# the clips that clips.py writes for `videolora train`: pairs of styles, moves
RECIPES["pairs"] = dict(moving=.15, far=(.05, .3), sizes=[((96, 96), .4), ((144, 80), .3), ((192, 112), .2), ((256, 144), .1)])
RECIPES["move"] = dict(moving=1, far=(.14, .22), sizes=[((64, 64), .3), ((96, 64), .2), ((96, 96), .5)])


def pyramid(picture):
    """[C,H,W] -> the picture and its halvings down to 48 pixels"""
    levels = [picture]
    while min(levels[-1].shape[1:]) >= 96:
        levels.append(F.avg_pool2d(levels[-1][None], 2)[0])
    return levels


def load_pictures(folders, mode, names=None):
    """name -> pyramid of float pictures in [0,1]; cut-outs (RGBA) get premultiplied alpha"""
    out = {}
    for folder in folders:
        for file in sorted(os.listdir(folder)):
            name, suffix = os.path.splitext(file)
            if suffix.lower() not in (".jpg", ".png") or (names is not None and name not in names):
                continue
            a = torch.from_numpy(np.asarray(Image.open(os.path.join(folder, file)).convert(mode)).copy())
            a = a.permute(2, 0, 1).float() / 255
            if mode == "RGBA":
                a = F.pad(torch.cat([a[:3] * a[3:], a[3:]]), (4, 4, 4, 4))
            out[name] = pyramid(a)
    return out


def sample(levels, x, y, step, padding):
    """Bicubic look-up at picture pixels (x, y) of level 0, from the level whose pixels are nearest to `step` apart."""
    level = min(max(round(math.log2(max(step, 1e-3))), 0), len(levels) - 1)
    p = levels[level]
    h, w = levels[0].shape[1:]
    grid = torch.stack([2 * (x + .5) / w - 1, 2 * (y + .5) / h - 1], -1)
    return F.grid_sample(p[None].expand(len(x), -1, -1, -1), grid, mode="bicubic", padding_mode=padding, align_corners=False)


class Renderer:
    def __init__(self, photo_folders, sprite_folder, seed, recipe="base"):
        self.recipe, self.plain = RECIPES[recipe], recipe in ("camera", "move")
        self.photos = load_pictures(photo_folders, "RGB", PHOTO_TAGS)
        self.sprites = load_pictures([sprite_folder], "RGBA") if sprite_folder else {}
        self.seed = seed

    def camera(self, rng, u, moving, move=None):
        """-> tag (`move` where it is given), offset [F,2] in frame heights, log zoom [F], roll [F]"""
        n = len(u)
        zero = np.zeros(n)
        dx = dy = z = r = zero
        tag = "static"
        if moving:
            tag = rng.choice(MOVES if self.plain else ["static", "handheld"] + 2 * (MOVES + ["roll_cw", "roll_ccw"]))
            tag = move or tag
            a = rng.uniform(*self.recipe["far"])
            if tag == "handheld":
                k = np.arange(n)
                wave = lambda s: sum(rng.normal(0, s) * np.sin(rng.uniform(.2, 1.2) * k + rng.uniform(0, 6.3)) for _ in range(2))
                dx, dy, z, r = wave(.012), wave(.012), wave(.006), wave(.008)
            elif tag.startswith("pan"):
                dx = a * u * (1 if tag == "pan_left" else -1)
            elif tag.startswith("tilt"):
                dy = a * u * (1 if tag == "tilt_up" else -1)
            elif tag.startswith("zoom"):
                z = (2 if self.plain else 1) * a * u * (1 if tag == "zoom_in" else -1)
            else:
                r = .8 * a * u * (1 if tag == "roll_cw" else -1)
        return str(tag), np.stack([dx, dy], 1), z, r

    def clip(self, index, move=None):
        """-> frames [F or 1,3,H,W] in [0,1], caption words"""
        rng = np.random.default_rng([self.seed, index])
        sizes = self.recipe["sizes"]
        width, height = sizes[rng.choice(len(sizes), p=[p for _, p in sizes])][0]
        moving = rng.random() < self.recipe["moving"]
        n = FRAMES if moving else 1
        u = (np.arange(n) - (n - 1) / 2) / max(n - 1, 1)
        if rng.random() < (0 if self.plain else .3):       # eased instead of constant speed
            u = .5 * np.sin(np.pi * u)
        tag, offset, zoom, roll = self.camera(rng, u, moving, move)
        name = str(rng.choice(sorted(self.photos)))
        levels = self.photos[name]
        ph, pw = levels[0].shape[1:]
        widest = min(ph / height, pw / width)              # photo pixels per output pixel when the frame just fits
        scale = widest * math.exp(rng.uniform(math.log(max(.12, .5 / widest)), math.log(.95)))
        spare_x, spare_y = max(pw - width * scale, 0), max(ph - height * scale, 0)
        cx = pw / 2 + spare_x * rng.uniform(-.5, .5)
        cy = ph / 2 + spare_y * rng.uniform(-.5, .5)
        gy, gx = np.meshgrid((np.arange(height) + .5 - height / 2) / height, (np.arange(width) + .5 - width / 2) / height,
                             indexing="ij")
        px = gx[None] - offset[:, 0, None, None]           # the picture moves by +offset, so the look-up moves by -offset
        py = gy[None] - offset[:, 1, None, None]
        c, s, m = np.cos(-roll), np.sin(-roll), np.exp(-zoom)
        qx = torch.from_numpy((m * c)[:, None, None] * px - (m * s)[:, None, None] * py).float()
        qy = torch.from_numpy((m * s)[:, None, None] * px + (m * c)[:, None, None] * py).float()
        flip = -1.0 if rng.random() < .5 else 1.0
        frames = sample(levels, cx + flip * qx * height * scale - .5, cy + qy * height * scale - .5, scale, "reflection")
        frames = self.grade(rng, frames)
        words = ["photo"] + PHOTO_TAGS[name][:3] + [tag]
        frames, more = self.cutouts(rng, frames, qx, qy, height, width / height, n)
        words += more
        return frames.clamp(0, 1), words

    @staticmethod
    def shown(path, width, height, move, far=.15):
        """One picture under one camera move: frames [F,3,H,W] in [0,1], for evaluation"""
        levels = load_pictures([os.path.dirname(path)], "RGB", [os.path.splitext(os.path.basename(path))[0]]).popitem()[1]
        ph, pw = levels[0].shape[1:]
        scale = .7 * min(ph / height, pw / width)
        sign = 1 if move in ("pan_left", "tilt_up", "zoom_in") else -1
        u = (torch.arange(FRAMES) / (FRAMES - 1) - .5).view(-1, 1, 1) * far * sign
        gy, gx = torch.meshgrid((torch.arange(height) + .5 - height / 2) / height, (torch.arange(width) + .5 - width / 2) / height,
                                indexing="ij")
        zoom = torch.exp(-u) if move.startswith("zoom") else torch.ones_like(u)
        x, y = gx * zoom - (u if move.startswith("pan") else 0), gy * zoom - (u if move.startswith("tilt") else 0)
        return sample(levels, pw / 2 + x * height * scale - .5, ph / 2 + y * height * scale - .5, scale, "reflection").clamp(0, 1)

    @staticmethod
    def grade(rng, x):
        """mild exposure, contrast, saturation and white balance"""
        gain = torch.tensor(np.exp(rng.normal(0, .06, 3)), dtype=torch.float32).view(1, 3, 1, 1) * math.exp(rng.normal(0, .15))
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * (0.0 if rng.random() < .03 else math.exp(rng.normal(0, .2)))
        x = (x * gain).clamp(0, 1)
        return x ** math.exp(rng.normal(0, .15))

    def cutouts(self, rng, frames, qx, qy, height, aspect, n):
        words = []
        for _ in range(rng.choice(4, p=[.5, .28, .14, .08]) if self.sprites else 0):
            name = str(rng.choice(sorted(self.sprites)))
            levels = self.sprites[name]
            sh, sw = levels[0].shape[1:]
            size = rng.uniform(.25, .7) / max(sh, sw)      # frame heights per cut-out pixel
            path = "still" if n == 1 or self.plain else str(rng.choice(["still", "right", "left", "up", "down"]))
            way = {"still": (0, 0), "right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}[path]
            far = rng.uniform(.1, .6)
            t = torch.linspace(-.5, .5, n).view(-1, 1, 1) if n > 1 else torch.zeros(1, 1, 1)
            x = qx - (rng.uniform(-.45, .45) * aspect + way[0] * far * t)
            y = qy - (rng.uniform(-.4, .4) + way[1] * far * t)
            flip = -1.0 if rng.random() < .5 else 1.0
            a = sample(levels, flip * x / size + sw / 2, y / size + sh / 2, 1 / (size * height), "zeros").clamp(0, 1)
            frames = frames * (1 - a[:, 3:]) + a[:, :3]
            word = {"bus_blue": "bus", "bus_red": "bus", "fish_brown": "fish", "fish_orange": "fish", "leaf_autumn": "leaf",
                    "leaf_green": "leaf", "tiger_side": "tiger"}.get(name, name)
            words += [word] + ([path] if path != "still" else [])
        return frames, words
