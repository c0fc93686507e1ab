import DiffusionLayers
import DiffusionModels
import TensorCore

/// Whole runs of the sampler.
extension CaseReplayer {
  func textToVideo(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let scheduler = try config(details).scheduler(steps: try details.int("steps"))
    let start = try input(name, "latents") * scheduler.initNoiseSigma
    return try sampled(name, details, scheduler, firstStep: 0, start, drawsBefore: 0)
  }

  /// Begins as far into the schedule as the reference does: with the last `⌊steps · strength⌋` steps.
  func videoToVideo(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let steps = try details.int("steps")
    let taken = min(Int(Double(steps) * (try details.double("strength"))), steps)
    guard taken > 0 else { throw SkippedCase(why: "its strength leaves no step") }
    let scheduler = try config(details).scheduler(steps: steps)
    let (clean, draws) = try encodedVideo(name)
    // Where frames are pictures of a batch, so is the noise: `[1, F, C, h, w]`.
    var noise = try file.load("\(name).noise.\(draws)")
    if draws > 0, noise.rank == 5 { noise = noise.permuted([0, 2, 1, 3, 4]).contiguous() }
    let noisy = scheduler.addNoise(clean, noise: noise, at: steps - taken)
    return try sampled(name, details, scheduler, firstStep: steps - taken, noisy, drawsBefore: draws + 1)
  }

  /// The source's latents, from `in.video` or given as `in.encoded`, and the number of draws of noise that encoding took.
  private func encodedVideo(_ name: String) throws -> (Tensor, draws: Int) {
    if file.entries["\(name).in.encoded"] != nil { return (try input(name, "encoded"), 0) }
    let video = "\(name).in.video"
    guard let shape = file.entries[video]?.shape else { throw SkippedCase(why: "it has no in.video") }
    let pictures = Tensor(try file.integers(video).map { Float($0) }, shape: shape)
    guard try needed().drawsLatents else { return (try needed().encode(pictures, draws: nil), 0) }
    // The reference encodes 16 frames at a time and draws for each chunk.
    let chunks = (shape[0] + 15) / 16
    let draws = try (0..<chunks).map { try file.load("\(name).noise.\($0)") }
    return (
      try needed().encode(pictures, draws: channelsLast(Tensor.concatenated(draws, axis: 0))), chunks
    )
  }

  /// The case's sampler: the model's, as the class and with the options that the case says.
  private func config(_ details: JSONObject) throws -> any SchedulerConfig {
    let scheduler = try needed().scheduler.changed(
      to: try details.string("scheduler"), try details.object("changed", default: JSONObject()))
    return try scheduler.config(for: .auto)
  }

  /// Denoises from `start` and decodes where there is an autoencoder.
  private func sampled(
    _ name: String, _ details: JSONObject, _ scheduler: any Scheduler, firstStep: Int, _ start: Tensor,
    drawsBefore: Int
  ) throws -> [(String, Tensor)] {
    let (model, _, context) = try adapted(details)
    let loop = DenoisingLoop(
      denoiser: model, coordinatePlanes: false, scheduler: scheduler, firstStep: firstStep,
      conditioning: Conditioning(positive: try input(name, "embeds"), negative: try input(name, "negative")),
      guidanceScale: Float(try details.double("guidance")))
    var draws = try RecordedNoise(file, name, skipping: drawsBefore)
    var steps: [Tensor] = []
    var cache = FirstBlockCache()
    let latents = try loop.run(
      start, context, cache: &cache, noise: { draws.next() }, afterStep: { _, sample in steps.append(sample) }
    )
    try draws.check()
    var results = [("latents", latents), ("steps", stacked(steps))]
    if try needed().hasAutoencoder { results.append(("frames", try needed().decode(latents))) }
    return results
  }
}
