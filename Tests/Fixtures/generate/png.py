"""png/*.png: pictures of every colour type, all five row filters, all three kinds of deflate blocks; png/expected.safetensors:
their pixels as RGB, 16 bits cut to 8, grey repeated, transparency left out."""
import os
import struct
import zlib
import torch
from common import ROOT, generator, write

os.makedirs(os.path.join(ROOT, "png"), exist_ok=True)
W, H = 37, 23
g = generator(900)
y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")


def smooth(channels, top):
    p = torch.rand(channels, 3, generator=g) * 6
    v = [(torch.sin(x * 0.21 + p[c, 0]) + torch.cos(y * 0.17 + p[c, 1]) + 2) / 4 for c in range(channels)]
    return (torch.stack(v, -1) * top + torch.rand(H, W, channels, generator=g) * 0.01 * top).clamp(0, top).long()


def packed(values, depth):
    """rows of bytes, big-endian, samples below 8 bits packed from the highest bit on"""
    rows = []
    for row in values.reshape(H, -1).tolist():
        if depth == 16:
            rows.append(b"".join(struct.pack(">H", v) for v in row))
        elif depth == 8:
            rows.append(bytes(row))
        else:
            bits = "".join(format(v, f"0{depth}b") for v in row)
            bits += "0" * (-len(bits) % 8)
            rows.append(bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)))
    return rows


def filtered(rows, step):
    out, previous = b"", bytes(len(rows[0]))
    for n, row in enumerate(rows):
        kind = n % 5
        line = []
        for i, v in enumerate(row):
            a = row[i - step] if i >= step else 0
            b = previous[i]
            c = previous[i - step] if i >= step else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line.append((v - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
        out += bytes([kind]) + bytes(line)
        previous = row
    return out


def png(name, values, depth, colour, palette=None, level=9, strategy=zlib.Z_DEFAULT_STRATEGY, interlace=0, parts=1):
    channels = values.shape[-1]
    z = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
    data = z.compress(filtered(packed(values, depth), max(1, channels * depth // 8))) + z.flush()
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, interlace))
    out += chunk(b"tEXt", b"Comment\0none")
    if palette is not None:
        out += chunk(b"PLTE", bytes(palette.flatten().tolist()))
    size = -(-len(data) // parts)
    for i in range(0, len(data), size):
        out += chunk(b"IDAT", data[i:i + size])
    with open(os.path.join(ROOT, "png", name + ".png"), "wb") as f:
        f.write(out + chunk(b"IEND", b""))


expected = {}


def case(name, rgb, *args, **more):
    png(name, *args, **more)
    expected[name] = rgb.to(torch.uint8)


v = smooth(3, 255)
case("rgb8", v, v, 8, 2, parts=3)
case("rgb8_stored", v, v, 8, 2, level=0)
case("rgb8_fixed", v, v, 8, 2, strategy=zlib.Z_FIXED)
case("rgb8_huffman", v, v, 8, 2, strategy=zlib.Z_HUFFMAN_ONLY)
v = smooth(4, 255)
case("rgba8", v[..., :3], v, 8, 6)
v = smooth(3, 65535)
case("rgb16", v // 256, v, 16, 2)
v = smooth(2, 65535)
case("greyalpha16", (v[..., :1] // 256).expand(-1, -1, 3), v, 16, 4)
for depth in (1, 2, 4, 8):
    v = smooth(1, 2 ** depth - 1)
    case(f"grey{depth}", (v * 255 // (2 ** depth - 1)).expand(-1, -1, 3), v, depth, 0)
    p = torch.randint(0, 256, (2 ** depth, 3), generator=g)
    case(f"palette{depth}", p[v[..., 0]], v, depth, 3, palette=p)
png("interlaced", smooth(3, 255), 8, 2, interlace=1)
write("png/expected.safetensors", expected)
