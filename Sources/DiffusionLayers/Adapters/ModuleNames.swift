/// Finds a layer by any of its spellings, dotted or with underscores in place of the dots.
///
/// The spellings are the families' tables. Numbers are put aside first, so a name costs one dictionary look-up
/// whatever it is; nothing in a name can make it fail.
package enum ModuleNames {
  /// What a spelling stands for.
  package struct Found: Equatable {
    /// diffusers' path.
    package let path: String
    /// Families that have such a layer.
    package let families: [LoRAFamily]
    /// Whether it was spelled as diffusers spells it.
    package let isCanonical: Bool
  }

  /// The layer of a dotted name, or nil when no family has it.
  package static func find(_ name: String) -> Found? {
    dotted.find(name.split(separator: ".", omittingEmptySubsequences: false))
  }

  /// The layer of a name with underscores, or nil when no family has it or several layers are spelled so.
  package static func find(underscored name: String) -> Found? {
    underscored.find(name.split(separator: "_", omittingEmptySubsequences: false))
  }

  /// The original repository's name of a layer under diffusers' name; nil when the family has none.
  package static func original(_ path: String, of family: LoRAFamily) -> String? {
    originals[family]?.find(path.split(separator: ".", omittingEmptySubsequences: false))?.path
  }

  /// A spelling and what it is rewritten to.
  private struct Rule {
    let spelling: [Substring]
    let result: [Substring]
    let family: LoRAFamily
    let isCanonical: Bool
  }

  private struct Index {
    private var rules: [String: [Rule]] = [:]

    init(_ spellings: [ModuleSpelling], separator: Character) {
      for module in spellings {
        for (index, text) in ([module.canonical] + module.others).enumerated() {
          add(text, separator, to: module.canonical, module.family, isCanonical: index == 0)
        }
      }
    }

    init(originalsOf family: LoRAFamily) {
      for module in family.spellings {
        guard let original = module.others.first else {
          add(module.canonical, ".", to: module.canonical, family, isCanonical: false)
          continue
        }
        add(module.canonical, ".", to: original, family, isCanonical: false)
      }
    }

    private mutating func add(
      _ text: String, _ separator: Character, to result: String, _ family: LoRAFamily, isCanonical: Bool
    ) {
      let spelled = separator == "." ? text : String(text.map { $0 == "." ? separator : $0 })
      let parts = spelled.split(separator: separator)
      rules[Self.key(parts), default: []].append(
        Rule(spelling: parts, result: result.split(separator: "."), family: family, isCanonical: isCanonical))
    }

    private static func isNumber(_ part: Substring) -> Bool {
      !part.isEmpty && part.utf8.count <= 6 && part.utf8.allSatisfy { (48...57).contains($0) }
    }

    /// The name with every number put aside.
    private static func key(_ parts: [Substring]) -> String {
      parts.map { $0 == "#" || isNumber($0) ? "#" : $0 }.joined(separator: ".")
    }

    func find(_ parts: [Substring]) -> Found? {
      guard let candidates = rules[Self.key(parts)] else { return nil }
      var found: Found?
      for rule in candidates {
        guard let path = Self.apply(rule, parts) else { continue }
        guard let first = found else {
          found = Found(path: path, families: [rule.family], isCanonical: rule.isCanonical)
          continue
        }
        if first.path != path { return nil }
        found = Found(
          path: path,
          families: first.families.contains(rule.family) ? first.families : first.families + [rule.family],
          isCanonical: first.isCanonical || rule.isCanonical)
      }
      return found
    }

    private static func apply(_ rule: Rule, _ parts: [Substring]) -> String? {
      var numbers: [Substring] = []
      for (expected, part) in zip(rule.spelling, parts) {
        if expected == "#" { numbers.append(part) } else if expected != part { return nil }
      }
      var next = numbers.makeIterator()
      var result: [Substring] = []
      for part in rule.result {
        guard part == "#" else {
          result.append(part)
          continue
        }
        guard let number = next.next() else { return nil }
        result.append(number)
      }
      return result.joined(separator: ".")
    }
  }

  private static let all = LoRAFamily.allCases.flatMap(\.spellings)
  private static let dotted = Index(all, separator: ".")
  private static let underscored = Index(all, separator: "_")
  private static let originals = Dictionary(
    uniqueKeysWithValues: LoRAFamily.allCases.map { ($0, Index(originalsOf: $0)) })
}
