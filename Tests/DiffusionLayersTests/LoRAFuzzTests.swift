import DiffusionLayers
import TensorCore
import Testing

/// Files with made-up names: whatever they say, the answer is a layer or a sentence, never a trap.
@Suite struct LoRAFuzzTests {
  private static let words = [
    "lora_unet", "lora_unet_", "lora_te", "lora_te1", "lora", "unet", "transformer", "diffusion_model",
    "base_model",
    "model", "blocks", "down_blocks", "up_blocks", "mid_block", "attentions", "resnets", "motion_modules",
    "temporal_transformer", "transformer_blocks", "attention_blocks", "processor", "attn1", "attn2",
    "self_attn",
    "cross_attn", "to_q", "to_out", "q", "k_img", "ffn", "net", "proj", "to_q_lora", "lora_A", "lora_B",
    "lora_down",
    "lora_up", "down", "up", "weight", "bias", "alpha", "diff", "diff_b", "w_norm", "matrix_A", "matrix_B",
    "default",
    "hada_w1_a", "dora_scale", "layers", "attention", "query_key_value", "text_model", "encoder", "head", "",
    "0", "1",
    "2", "7", "99999999999999999999", "-1", "#", "unet:0:up", "unet:-1:down", "text_encoder:99:up",
    "unet:00:down", "é",
    "🙂", " ",
  ]

  /// A name of random words.
  private func words(_ random: inout Sequence64) -> String {
    let separators = [".", ".", ".", "_", ":", "", ".."]
    return (0..<Int.random(in: 1...9, using: &random)).map { _ in
      (Self.words.randomElement(using: &random) ?? "") + (separators.randomElement(using: &random) ?? "")
    }.joined()
  }

  /// A name with some of its bytes changed.
  private func mutated(_ name: String, _ random: inout Sequence64) -> String {
    var bytes = Array(name.utf8)
    for _ in 0..<Int.random(in: 0...2, using: &random) where !bytes.isEmpty {
      let index = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0...2, using: &random) {
      case 0: bytes[index] = UInt8.random(in: 32...126, using: &random)
      case 1: bytes.insert(UInt8.random(in: 46...57, using: &random), at: index)
      default: bytes.remove(at: index)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Some tensors: mostly both halves of a pair under a real or made-up name, at times broken.
  private func tensors(_ random: inout Sequence64) -> [(String, [Int])] {
    let odd: [[Int]] = [[2, 4], [6, 2], [4], [], [0, 4], [2, 4, 1, 1], [6, 4], [1]]
    let scheme = WanNames.schemes.randomElement(using: &random) ?? WanNames.schemes[0]
    let isReal = Int.random(in: 0..<3, using: &random) > 0
    let stem = isReal ? mutated(scheme.stems[0], &random) : words(&random)
    var result: [(String, [Int])] = [(stem + scheme.down, [2, 4]), (stem + scheme.up, [6, 2])]
    if Int.random(in: 0..<4, using: &random) == 0 { result.append((stem + ".alpha", [])) }
    if Int.random(in: 0..<4, using: &random) == 0 { result.append((stem + ".diff_b", [6])) }
    if Int.random(in: 0..<4, using: &random) == 0 {
      result.append((words(&random), odd.randomElement(using: &random) ?? []))
    }
    for index in result.indices where Int.random(in: 0..<8, using: &random) == 0 {
      result[index].0 = mutated(result[index].0, &random)
      if Bool.random(using: &random) { result[index].1 = odd.randomElement(using: &random) ?? [] }
    }
    return result
  }

  @Test func randomNamesNeverTrap() throws {
    var random = Sequence64(state: 7)
    let model = ["blocks.0.attn1.to_q": [6, 4], "blocks.0.ffn.net.2": [4, 5], "blocks.0.norm2": [4]]
    let metadata = [
      [], [("lora_adapter_metadata", #"{"r": 2, "lora_alpha": 1e300, "rank_pattern": {"": 1, ".": -1}}"#)],
      [("unet", #"["CrossAttention","Attention","GEGLU"]"#), ("ss_network_alpha", "nan")],
    ]
    let folder = TemporaryFolder()
    var (read, matched, refused) = (0, 0, 0)
    for round in 0..<4000 {
      var header: [String] = []
      var (names, offset) = (Set<String>(), 0)
      let count = Int.random(in: 1...3, using: &random)
      for (key, shape) in (0..<count).flatMap({ _ in tensors(&random) }) {
        guard !key.isEmpty, names.insert(key).inserted else { continue }
        let bytes = shape.reduce(4, *)
        header.append(
          "\(JSONValue.quoted(key)):{\"dtype\":\"F32\",\"shape\":\(shape),\"data_offsets\":[\(offset),\(offset + bytes)]}"
        )
        offset += bytes
      }
      let entries = metadata[round % metadata.count].map {
        "\(JSONValue.quoted($0.0)):\(JSONValue.quoted($0.1))"
      }
      let meta = entries.isEmpty ? [] : ["\"__metadata__\":{\(entries.joined(separator: ","))}"]
      let file = crafted("{\((meta + header).joined(separator: ","))}", data: offset)
      do {
        let lora = try LoRAFile(source: memory(file), alphaOverRank: round % 5 == 0 ? 1 : nil)
        read += 1
        _ = (lora.report, lora.seemsFor, lora.family, lora.role)
        for layer in lora.layers { _ = try? lora.load(layer) }
        if (try? lora.match(against: model, strict: false)) != nil { matched += 1 }
        for dialect in LoRAWriter.dialects where round % 40 == 0 {
          _ = try? LoRAWriter.convert(lora, to: dialect, path: folder.path + "/x")
        }
      } catch {
        refused += 1
        #expect(!error.description.isEmpty)
      }
    }
    // The generator reaches every outcome, or it would test nothing.
    #expect(
      read > 400 && matched > 100 && refused > 400, "\(read) read, \(matched) matched, \(refused) refused")
  }
}
