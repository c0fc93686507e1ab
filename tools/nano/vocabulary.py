"""The words the nano model knows.  A caption is up to 8 of them; row 0 pads and is always zero."""
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

# licence-clean photos and what is on them (the name of the file without its suffix)
PHOTO_TAGS = {
    "lomiri_Picture_0B_by_freespace": ["fruit", "food"], "lomiri_Picture_1A_by_freespace": ["brush"],
    "lomiri_Wine_by_Jakkub_Mede": ["room", "furniture", "drink"],
    "lomiri_aitzgorri_by_Aitzol_Berasategi": ["mountain", "grass", "sky"],
    "lomiri_friends_by_Aitzol_Berasategi": ["dog", "building", "wood"],
    "lomiri_life_by_Aitzol_Berasategi": ["river", "forest", "stone"],
    "lomiri_picosdeeuropa_by_Aitzol_Berasategi": ["mountain", "sky", "cloud"],
    "lomiri_seeding_by_Clements_Engelhardt": ["flower", "grass"],
    "lomiri_sunset_by_Aitzol_Berasategi": ["sunset", "mountain", "sky"],
    "nasa_astronaut": ["person"], "sklearn_china": ["building", "tree", "sky"], "sklearn_flower": ["flower"],
    "unsplash_ahmadreza-sajadi-10140": ["night", "stars", "mountain"], "unsplash_galen-crout-175291": ["antenna", "night"],
    "unsplash_jad-limcaco-183877": ["canyon", "sky"], "unsplash_jake-hills-36605": ["moon", "night"],
    "unsplash_jared-evans-119758": ["desert", "sky"], "unsplash_kait-herzog-8242": ["sign", "desert", "sky"],
    "unsplash_nasa-45068": ["moon", "space"], "unsplash_nasa-53884": ["earth", "space", "night"],
    "unsplash_nasa-89127": ["space", "cloud"], "unsplash_ng-32703": ["jellyfish", "sea", "water"],
    "unsplash_samuel-zeller-337041": ["building", "pattern"], "unsplash_sean-afnan-244576": ["lake", "mountain", "stone"],
    "unsplash_sebastien-gabriel-232361": ["drawing"], "unsplash_spacex-81773": ["earth", "sea", "space"],
    "unsplash_tony-webster-97532": ["bridge", "night"],
    "skimage_chelsea": ["cat", "animal"], "skimage_coffee": ["drink", "furniture"], "skimage_rocket": ["rocket", "sky"],
    "skimage_hubble_deep_field": ["space", "stars"], "skimage_grass": ["grass"], "skimage_gravel": ["stone"],
    "skimage_brick": ["brick"],
}


def rows(words):
    """Caption words -> CAPTION_LENGTH table rows (a list of ints).  Unknown words are an error."""
    ids = [ROW[w] for w in words][:CAPTION_LENGTH]
    return ids + [0] * (CAPTION_LENGTH - len(ids))
