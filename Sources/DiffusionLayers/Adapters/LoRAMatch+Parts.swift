extension LoRAMatch {
  /// The part of the adapter that targets modules of this source, for models of several parts.
  package func restricted(to source: any WeightSource) -> LoRAMatch {
    func isThere(_ module: String) -> Bool { source.contains(module + ".weight") }
    return LoRAMatch(
      updates: updates.filter { isThere($0.key) }, report: report, role: role, control: control,
      statedNorms: statedNorms.filter { isThere($0.key) })
  }
}
