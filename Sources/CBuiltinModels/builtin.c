// Written by generate.sh: the files of models/nano, models/adapters and models/tokenizers.

#include "cbuiltinmodels.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

static const unsigned char file_0[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/duotone.safetensors"
};

static const unsigned char file_1[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/halftone.safetensors"
};

static const unsigned char file_2[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/lineart.safetensors"
};

static const unsigned char file_3[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/lion_pan_left.safetensors"
};

static const unsigned char file_4[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/mosaic.safetensors"
};

static const unsigned char file_5[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/oil.safetensors"
};

static const unsigned char file_6[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/pan_left.safetensors"
};

static const unsigned char file_7[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/pan_right.safetensors"
};

static const unsigned char file_8[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/poster.safetensors"
};

static const unsigned char file_9[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/tilt_down.safetensors"
};

static const unsigned char file_10[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/tilt_up.safetensors"
};

static const unsigned char file_11[] __attribute__((aligned(64))) = {
#embed "../../models/adapters/zoom_out.safetensors"
};

static const unsigned char file_12[] __attribute__((aligned(64))) = {
#embed "../../models/nano/LICENSES.txt"
};

static const unsigned char file_13[] __attribute__((aligned(64))) = {
#embed "../../models/nano/model_index.json"
};

static const unsigned char file_14[] __attribute__((aligned(64))) = {
#embed "../../models/nano/scheduler/scheduler_config.json"
};

static const unsigned char file_15[] __attribute__((aligned(64))) = {
#embed "../../models/nano/text_encoder/config.json"
};

static const unsigned char file_16[] __attribute__((aligned(64))) = {
#embed "../../models/nano/text_encoder/model.safetensors"
};

static const unsigned char file_17[] __attribute__((aligned(64))) = {
#embed "../../models/nano/text_encoder/vocab.json"
};

static const unsigned char file_18[] __attribute__((aligned(64))) = {
#embed "../../models/nano/transformer/config.json"
};

static const unsigned char file_19[] __attribute__((aligned(64))) = {
#embed "../../models/nano/transformer/diffusion_pytorch_model.safetensors"
};

static const unsigned char file_20[] __attribute__((aligned(64))) = {
#embed "../../models/nano/vae/config.json"
};

static const unsigned char file_21[] __attribute__((aligned(64))) = {
#embed "../../models/nano/vae/taef2_decoder.safetensors"
};

static const unsigned char file_22[] __attribute__((aligned(64))) = {
#embed "../../models/nano/vae/taef2_encoder.safetensors"
};

static const unsigned char file_23[] __attribute__((aligned(64))) = {
#embed "../../models/tokenizers/clip/LICENSE.txt"
};

static const unsigned char file_24[] __attribute__((aligned(64))) = {
#embed "../../models/tokenizers/clip/merges.txt"
};

static const struct videolora_builtin_file files[] = {
    {"adapters/duotone.safetensors", file_0, sizeof file_0},
    {"adapters/halftone.safetensors", file_1, sizeof file_1},
    {"adapters/lineart.safetensors", file_2, sizeof file_2},
    {"adapters/lion_pan_left.safetensors", file_3, sizeof file_3},
    {"adapters/mosaic.safetensors", file_4, sizeof file_4},
    {"adapters/oil.safetensors", file_5, sizeof file_5},
    {"adapters/pan_left.safetensors", file_6, sizeof file_6},
    {"adapters/pan_right.safetensors", file_7, sizeof file_7},
    {"adapters/poster.safetensors", file_8, sizeof file_8},
    {"adapters/tilt_down.safetensors", file_9, sizeof file_9},
    {"adapters/tilt_up.safetensors", file_10, sizeof file_10},
    {"adapters/zoom_out.safetensors", file_11, sizeof file_11},
    {"nano/LICENSES.txt", file_12, sizeof file_12},
    {"nano/model_index.json", file_13, sizeof file_13},
    {"nano/scheduler/scheduler_config.json", file_14, sizeof file_14},
    {"nano/text_encoder/config.json", file_15, sizeof file_15},
    {"nano/text_encoder/model.safetensors", file_16, sizeof file_16},
    {"nano/text_encoder/vocab.json", file_17, sizeof file_17},
    {"nano/transformer/config.json", file_18, sizeof file_18},
    {"nano/transformer/diffusion_pytorch_model.safetensors", file_19, sizeof file_19},
    {"nano/vae/config.json", file_20, sizeof file_20},
    {"nano/vae/taef2_decoder.safetensors", file_21, sizeof file_21},
    {"nano/vae/taef2_encoder.safetensors", file_22, sizeof file_22},
    {"tokenizers/clip/LICENSE.txt", file_23, sizeof file_23},
    {"tokenizers/clip/merges.txt", file_24, sizeof file_24},
    {0, 0, 0},
};

size_t videolora_builtin_count(void) { return sizeof files / sizeof files[0] - 1; }

struct videolora_builtin_file videolora_builtin_at(size_t index) {
  size_t count = videolora_builtin_count();
  return files[index < count ? index : count];
}
