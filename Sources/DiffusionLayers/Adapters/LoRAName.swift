/// Which layer a tensor's name is about: prefixes taken off, the path in diffusers' spelling.
package struct LoRAName: Equatable {
  /// What stood before the path.
  package enum Prefix: Equatable {
    case none
    /// `transformer.`, `unet.`, `text_encoder.`
    case component
    /// `base_model.model.`
    case peft
    /// `diffusion_model.`
    case comfyUI
    /// `lora_unet_`, `lora_te_`; the path's dots are underscores.
    case kohya
    /// `lora_unet__`
    case videoXFun
  }

  package let component: LoRAComponent
  /// diffusers' path where the layer is known, else the name as it stands.
  package let path: String
  /// The path as the file spells it, without prefixes.
  package let spelling: String
  /// The outermost prefix.
  package let prefix: Prefix
  /// What is known about the layer; nil for one of no known family.
  package let found: ModuleNames.Found?

  var isUnderscored: Bool { prefix == .kohya || prefix == .videoXFun }

  private static let underscored: [(String, Prefix, LoRAComponent)] = [
    ("lora_unet__", .videoXFun, .denoiser), ("lora_unet_", .kohya, .denoiser),
    ("lora_transformer_", .kohya, .denoiser), ("lora_te1_", .kohya, .textEncoder),
    ("lora_te2_", .kohya, .textEncoder2), ("lora_te_", .kohya, .textEncoder),
  ]
  private static let dotted: [(String, Prefix)] = [
    ("base_model.model.", .peft), ("model.diffusion_model.", .comfyUI), ("diffusion_model.", .comfyUI),
    ("transformer.", .component), ("unet.", .component), ("module.", .none),
  ]
  private static let textEncoders: [(String, LoRAComponent)] = [
    ("text_encoder_2.", .textEncoder2), ("text_encoder.", .textEncoder),
  ]

  /// `stem` is a tensor's name without the ending that says which part of the update it is.
  package init(_ stem: String) {
    for (start, prefix, component) in Self.underscored where stem.hasPrefix(start) {
      var rest = String(stem.dropFirst(start.count))
      while rest.hasPrefix("diffusion_model_") { rest = String(rest.dropFirst("diffusion_model_".count)) }
      let found = ModuleNames.find(underscored: LDMNames.diffusers(rest, separator: "_") ?? rest)
      self.init(component, rest, prefix, found)
      return
    }
    let (rest, prefix, component) = Self.strip(stem)
    let isText = rest.hasPrefix("text_model.") && component == .denoiser
    let found = ModuleNames.find(LDMNames.diffusers(rest) ?? rest)
    self.init(isText ? .textEncoder : component, rest, prefix, found)
  }

  private init(_ component: LoRAComponent, _ spelling: String, _ prefix: Prefix, _ found: ModuleNames.Found?)
  {
    self.component = component
    self.spelling = spelling
    self.prefix = prefix
    self.found = found
    path = found?.path ?? spelling
  }

  /// A layer that is known without its name, as in files that number their layers.
  init(_ component: LoRAComponent, path: String) {
    self.init(component, path, .none, ModuleNames.find(path))
  }

  /// Takes prefixes off until none is left, as some tools write them twice.
  private static func strip(_ stem: String) -> (rest: String, prefix: Prefix, component: LoRAComponent) {
    var (rest, prefix) = (stem[...], Prefix.none)
    var isStripped = true
    while isStripped {
      isStripped = false
      for (start, kind) in dotted where rest.hasPrefix(start) {
        rest = rest.dropFirst(start.count)
        if prefix == .none { prefix = kind }
        isStripped = true
      }
      for (start, component) in textEncoders where rest.hasPrefix(start) {
        return (
          strip(String(rest.dropFirst(start.count))).rest, prefix == .none ? .component : prefix, component
        )
      }
    }
    return (String(rest), prefix, .denoiser)
  }

  /// A dotted name without its prefixes.
  static func stripped(_ name: String) -> String { strip(name).rest }
}
