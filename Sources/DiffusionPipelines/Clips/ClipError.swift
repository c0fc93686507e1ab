/// Why a clip could not be read: a sentence that names the file and the remedy.
package struct ClipError: Error, Equatable, CustomStringConvertible {
  package let description: String

  package init(_ description: String) { self.description = description }
}
