import DiffusionLayers
import Glibc
import TensorCore

/// What the engine finds on this machine.
enum Machine {
  static func findings() -> [Finding] { [processor(), memory()] + libraries() }

  private static func processor() -> Finding {
    let found =
      "\(SIMDLevel.current) kernels, \(EngineThreads.available) cores; bf16 "
      + (ChipArithmetic.multipliesBFloat16 ? "multiplied" : "stored only, multiplied as f32") + "; int8 "
      + (ChipArithmetic.multipliesInt8 ? "multiplied with VNNI" : "multiplied as 16-bit integers, no VNNI")
    guard SIMDLevel.current == .portable else { return Finding("processor", .fine, found) }
    return Finding("processor", .warning, found, remedy: "expect slow runs: this processor has no AVX2")
  }

  private static func memory() -> Finding {
    let values = lines("/proc/meminfo").reduce(into: [String: Int]()) { result, line in
      let words = line.split(separator: " ")
      if words.count >= 2, let kibibytes = Int(words[1]) { result[String(words[0])] = kibibytes }
    }
    let (total, free) = (values["MemTotal:"] ?? 0, values["MemAvailable:"] ?? 0)
    let found = "\(free / 1024) of \(total / 1024) MiB available"
    guard free < 512 * 1024 else { return Finding("memory", .fine, found) }
    return Finding(
      "memory", .warning, found, remedy: "free some, or set memory-budget so that a run fails early")
  }

  /// Versions as the names of the mapped library files tell them.
  private static func libraries() -> [Finding] {
    let mapped = Set(lines("/proc/self/maps").compactMap { $0.split(separator: " ").last.map(String.init) })
    return [
      ("OpenBLAS", "libopenblas", "libopenblas0"), ("oneDNN", "libdnnl", "libdnnl2"),
      ("SentencePiece", "libsentencepiece", "libsentencepiece0"),
    ].map { name, stem, package in
      let file = mapped.filter { $0.contains("/\(stem)") }.sorted().first
      guard let file else {
        return Finding(name, .failed, "not loaded", remedy: "install the Debian package \(package)")
      }
      let digits = file.split(separator: "/").last.map(String.init) ?? ""
      let version = digits.drop { !$0.isNumber }.filter { $0.isNumber || $0 == "." }
      let trimmed = version.hasSuffix(".") ? String(version.dropLast()) : String(version)
      return Finding(name, .fine, "\(trimmed.isEmpty ? "" : trimmed + ", ")\(file)")
    }
  }

  private static func lines(_ path: String) -> [String] {
    // Files under /proc state no size: they are read to their end.
    guard let file = fopen(path, "r") else { return [] }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }
}
