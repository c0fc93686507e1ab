public import DiffusionLayers
public import TensorCore

/// Files that tests read, found from this source file's place in the repository.
public enum Fixture {
  /// The repository's folder.
  public static let root: String = {
    let path = #filePath  // …/Sources/TestSupport/Fixture.swift
    return path.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
  }()

  /// A path below `Tests/Fixtures`.
  public static func path(_ name: String) -> String { root + "/Tests/Fixtures/" + name }

  /// A fixture file of tensors.
  public static func safetensors(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: path(name + ".safetensors"))
  }
}

extension SafetensorsFile {
  /// The tensor of this name.
  public subscript(_ name: String) -> Tensor {
    get throws { try load(name, checkFinite: false) }
  }
}
