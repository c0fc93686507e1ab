import DiffusionLayers
import Testing

/// Names of Stable Diffusion's own repository.
@Suite struct LDMNamesTests {
  @Test(arguments: [
    ("time_embed.0.weight", "time_embedding.linear_1.weight"),
    ("time_embed.2.bias", "time_embedding.linear_2.bias"),
    ("input_blocks.0.0.weight", "conv_in.weight"), ("out.0.bias", "conv_norm_out.bias"),
    ("out.2.weight", "conv_out.weight"),
    ("input_blocks.1.0.in_layers.0.weight", "down_blocks.0.resnets.0.norm1.weight"),
    ("input_blocks.1.0.in_layers.2.weight", "down_blocks.0.resnets.0.conv1.weight"),
    ("input_blocks.2.0.emb_layers.1.bias", "down_blocks.0.resnets.1.time_emb_proj.bias"),
    ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
    ("input_blocks.4.0.skip_connection.weight", "down_blocks.1.resnets.0.conv_shortcut.weight"),
    ("input_blocks.5.1.proj_in.weight", "down_blocks.1.attentions.1.proj_in.weight"),
    (
      "input_blocks.8.1.transformer_blocks.0.attn1.to_out.0.bias",
      "down_blocks.2.attentions.1.transformer_blocks.0.attn1.to_out.0.bias"
    ),
    ("input_blocks.11.0.out_layers.3.weight", "down_blocks.3.resnets.1.conv2.weight"),
    ("middle_block.0.out_layers.0.weight", "mid_block.resnets.0.norm2.weight"),
    ("middle_block.1.norm.weight", "mid_block.attentions.0.norm.weight"),
    ("middle_block.2.in_layers.2.bias", "mid_block.resnets.1.conv1.bias"),
    ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
    ("output_blocks.3.1.proj_out.bias", "up_blocks.1.attentions.0.proj_out.bias"),
    ("output_blocks.5.2.conv.bias", "up_blocks.1.upsamplers.0.conv.bias"),
    ("output_blocks.11.0.in_layers.0.weight", "up_blocks.3.resnets.2.norm1.weight"),
  ])
  func tensors(original: String, renamed: String) {
    #expect(LDMNames.diffusers(original) == renamed)
  }

  @Test(arguments: [
    (
      "input_blocks_4_1_transformer_blocks_0_attn2_to_k",
      "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    ),
    ("middle_block_0_in_layers_2", "mid_block_resnets_0_conv1"),
    ("input_blocks_6_0_op", "down_blocks_1_downsamplers_0_conv"),
    ("output_blocks_8_2_conv", "up_blocks_2_upsamplers_0_conv"), ("time_embed_0", "time_embedding_linear_1"),
    ("out_2", "conv_out"),
  ])
  func modules(original: String, renamed: String) {
    #expect(LDMNames.diffusers(original, separator: "_") == renamed)
    let name = LoRAName("lora_unet_" + original)
    #expect(name.path == ModuleNames.find(underscored: renamed)?.path && name.found != nil)
  }

  @Test(arguments: [
    "", "input_blocks", "input_blocks.", "input_blocks.1", "input_blocks.1.", "input_blocks.x.0.a",
    "input_blocks.3.0.in_layers.0",
    "input_blocks.1.3.a", "input_blocks.-1.0.op", "input_blocks.9999.0.op", "middle_block.3.a",
    "output_blocks.1.2.conv",
    "output_blocks.2.2.other", "input_blocks.1.0.unknown.0", "conv_in.weight",
    "first_stage_model.encoder.conv_in.weight",
  ])
  func others(name: String) {
    #expect(LDMNames.diffusers(name) == nil)
  }
}
