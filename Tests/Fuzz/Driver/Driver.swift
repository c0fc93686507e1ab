import CAllocationCounter
import FuzzTargets
import Glibc

/// Runs inputs and enforces the rules of Tests/Fuzz/README.md. The target is named by VIDEOLORA_FUZZ_TARGET;
/// the worst use of memory is kept in the file named by VIDEOLORA_FUZZ_WORST.
final class Driver {
  private let target: FuzzTarget
  private let worstFile = Driver.variable("VIDEOLORA_FUZZ_WORST")
  private var worstSingle = 0.0
  private var worstAlive = 0.0
  private var last: [UInt8] = []
  /// Whether to say what became of each input, for looking at single ones.
  private let isTalking = getenv("VIDEOLORA_FUZZ_TALK") != nil

  init() {
    let name = Driver.variable("VIDEOLORA_FUZZ_TARGET") ?? ""
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
      fatalError("set VIDEOLORA_FUZZ_TARGET to one of \(FuzzTarget.all.map(\.name))")
    }
    self.target = target
    if let worstFile, let file = fopen(worstFile, "r") {
      var line = [CChar](repeating: 0, count: 200)
      if fgets(&line, 200, file) != nil {
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let fields = text.split { " \n".contains($0) }
        worstSingle = fields.first.flatMap { Double($0) } ?? 0
        worstAlive = fields.dropFirst().first.flatMap { Double($0) } ?? 0
      }
      fclose(file)
    }
    // Tables that are made once belong to no input.
    _ = try? target.refusal(of: Array("{}".utf8))
    for seed in FuzzTarget.seeds(of: target) { _ = try? target.refusal(of: seed) }
  }

  func run(_ bytes: [UInt8]) {
    videolora_allocations_begin()
    do {
      let refusal = try target.refusal(of: bytes)
      if isTalking { say(refusal ?? "accepted") }
    } catch {
      stop("\(error)")
    }
    let (peak, largest) = (videolora_allocations_peak(), videolora_allocations_largest())
    let fixed = target.fixedBytes(bytes)
    let single = Double(largest) / Double(2 * bytes.count + fixed)
    let alive = Double(peak) / Double(FuzzRule.liveFactor * bytes.count + fixed)
    if single > 1 { stop("one allocation of \(largest) bytes for \(bytes.count)") }
    if alive > 1 { stop("\(peak) bytes alive at once for \(bytes.count)") }
    note(single: single, alive: alive)
  }

  /// Keeps the largest shares of what the rules allow.
  private func note(single: Double, alive: Double) {
    guard single > worstSingle + 0.001 || alive > worstAlive + 0.001 else { return }
    (worstSingle, worstAlive) = (max(worstSingle, single), max(worstAlive, alive))
    guard let worstFile, let file = fopen(worstFile, "w") else { return }
    fputs("\(worstSingle) \(worstAlive)\n", file)
    fclose(file)
  }

  /// Half of the mutations are libFuzzer's, half those of the format.
  func mutate(_ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ limit: Int, _ seed: UInt32) -> Int {
    var mutator = Mutator(seed: UInt64(seed))
    let input = Array(UnsafeBufferPointer(start: data, count: size))
    defer { last = input }
    var result: [UInt8]
    if mutator.pick(2) == 0 {
      let count = LLVMFuzzerMutate(data, size, limit)
      result = Array(UnsafeBufferPointer(start: data, count: count))
      if mutator.pick(4) != 0 { result = mutator.repaired(result, target: target) }
    } else {
      result = mutator.mutated(input, other: last, target: target, limit: limit)
    }
    if result.count > limit { result.removeLast(result.count - limit) }
    _ = UnsafeMutableBufferPointer(start: data, count: result.count).update(fromContentsOf: result)
    return result.count
  }

  private func say(_ text: String) {
    let line = "videolora-fuzz: \(target.name): \(text)\n"
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }

  private func stop(_ reason: String) -> Never {
    say(reason)
    abort()
  }

  private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
