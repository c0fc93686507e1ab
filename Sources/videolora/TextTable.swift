/// Rows of text in aligned columns.
struct TextTable {
  private var rows: [[String]] = []

  init(_ header: String...) { rows.append(header) }

  mutating func add(_ cells: String...) { rows.append(cells) }

  /// The table, columns two spaces apart; cells that are numbers stand at the right.
  var text: String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in
      rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    return rows.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        let isNumber = cell.first.map { $0.isNumber || ($0 == "-" && cell.count > 1) } ?? false
        line += (column == 0 ? "" : "  ") + (isNumber && column > 0 ? padding + cell : cell + padding)
      }
      while line.last == " " { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }
}

/// `value` with `digits` places after the point.
func fixed(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  let scaled = (abs(value) * scale).rounded()
  let whole = (scaled / scale).rounded(.down)
  let sign = value < 0 && scaled > 0 ? "-" : ""
  guard digits > 0 else { return sign + "\(Int(whole))" }
  let rest = "\(Int(scaled - whole * scale))"
  return sign + "\(Int(whole))." + String(repeating: "0", count: max(0, digits - rest.count)) + rest
}

/// Bytes in MiB with one place, as tables print them.
func mebibytes(_ bytes: Int) -> String { fixed(Double(bytes) / 1_048_576, 1) + " MiB" }
