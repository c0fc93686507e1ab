"""The words the nano model knows.  A caption is up to 8 of them; row 0 pads and is always zero."""
import os

CAPTION_LENGTH = 8
TEXT_WIDTH = 64

STYLES = ["photo", "lineart", "oil", "halftone", "mosaic", "duotone"]          # the base model learns "photo" only
CAMERAS = ["static", "handheld", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out", "roll_cw", "roll_ccw"]
PATHS = ["still", "right", "left", "up", "down"]                               # how cut-outs move
SCENES = ["mountain", "desert", "sky", "sunset", "night", "stars", "moon", "earth", "space", "sea", "lake", "river", "forest",
          "grass", "flower", "fruit", "drink", "brush", "room", "furniture", "dog", "cat", "person", "building", "road", "sign",
          "antenna", "canyon", "cloud", "pattern", "drawing", "rocket", "jellyfish", "snow", "stone", "brick", "bridge", "wood",
          "car", "street", "people", "tree", "animal", "bird", "water", "food", "toy", "light"]
CUTOUTS = ["balloons", "baseball", "beagle", "burger", "bus", "croissant", "dice", "fish", "frog", "grapes", "ice_cream", "leaf",
           "snowman", "swan", "teapot", "tiger"]

WORDS = ["<pad>"] + STYLES + CAMERAS + PATHS + SCENES + CUTOUTS
ROW = {w: i for i, w in enumerate(WORDS)}

OPPOSITE = {"pan_left": "pan_right", "tilt_up": "tilt_down", "zoom_in": "zoom_out"}     # the moves that adapters are made for
OPPOSITE.update({b: a for a, b in OPPOSITE.items()})
_BACKWARDS = {**OPPOSITE, "roll_cw": "roll_ccw", "roll_ccw": "roll_cw", "right": "left", "left": "right", "up": "down", "down": "up"}
REVERSED = [ROW[_BACKWARDS.get(w, w)] for w in WORDS]       # row of a word -> row of what it is when the clip is played backwards

# photos.tsv: licence-clean photos (name of the file without its suffix), what is on them, author, licence, source
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "photos.tsv"), encoding="utf-8") as _file:
    PHOTOS = [line.rstrip("\n").split("\t") for line in _file][1:]
PHOTO_TAGS = {photo[0]: photo[1].split() for photo in PHOTOS}


def rows(words):
    """Caption words -> CAPTION_LENGTH table rows (a list of ints).  Unknown words are an error."""
    ids = [ROW[w] for w in words][:CAPTION_LENGTH]
    return ids + [0] * (CAPTION_LENGTH - len(ids))
