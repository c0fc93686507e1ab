extension LoRAFile {
  /// What the adapter is for (content, style, motion, camera, effect, domain), as its header says or its name gives
  /// away; nil when neither does.
  public var role: String? {
    if let stated = metadata("role") ?? (try? header())?.role { return stated }
    let file = (name.split(separator: "/").last.map(String.init) ?? name).lowercased()
    // The eight official motion LoRAs, the official domain adapter.
    let moves = [
      "zoomin", "zoomout", "panleft", "panright", "panup", "pandown", "tiltup", "tiltdown", "rolling",
    ]
    let flat = String(file.filter { $0.isLetter })
    if moves.contains(where: { flat.contains($0) }) { return "camera" }
    if file.hasPrefix("v3_sd15_adapter") { return "domain" }
    let isMotion = !layers.isEmpty && layers.allSatisfy { $0.module.contains("motion_modules.") }
    return isMotion ? "motion" : nil
  }
}
