/// Properties bound by key path to a plain `Settings` struct.

public import CGStreamer

/// When a property may be set, and whether a control source may drive it.
public enum Mutability: Sendable {
  /// NULL or READY only.
  case ready
  /// Any state.
  case playing
  /// Any state, and animated by a GstController.
  case controllable
  /// Never set.
  case readOnly

  /// The GParamFlags bits. Strings are copied by GObject: Swift strings do not live for ever.
  public var flags: GParamFlags {
    let bits =
      switch self {
      case .ready: gsw_param_read | gsw_param_write | gsw_param_ready
      case .playing: gsw_param_read | gsw_param_write | gsw_param_playing
      case .controllable: gsw_param_read | gsw_param_write | gsw_param_playing | gsw_param_controllable
      case .readOnly: gsw_param_read
      }
    return GParamFlags(rawValue: numericCast(bits))
  }
}

/// One GObject property of a type whose values live in `Settings`.
public struct Property<Settings: Sendable>: Sendable {
  public typealias Path<Value> = any WritableKeyPath<Settings, Value> & Sendable

  public let name: String
  public let mutability: Mutability
  let makeSpec: @Sendable () -> UnsafeMutablePointer<GParamSpec>?
  let read: @Sendable (Settings, UnsafeMutablePointer<GValue>) -> Void
  let write: @Sendable (inout Settings, UnsafePointer<GValue>) -> Void

  /// A property of any kind: `spec` makes its GParamSpec, `read` and `write` move the value.
  public init(
    _ name: String, _ mutability: Mutability,
    spec: @escaping @Sendable () -> UnsafeMutablePointer<GParamSpec>?,
    read: @escaping @Sendable (Settings, UnsafeMutablePointer<GValue>) -> Void,
    write: @escaping @Sendable (inout Settings, UnsafePointer<GValue>) -> Void
  ) {
    self.name = name
    self.mutability = mutability
    self.makeSpec = spec
    self.read = read
    self.write = write
  }

  public static func int(
    _ name: String, _ path: Path<Int>, _ range: ClosedRange<Int32>, default value: Int32,
    _ mutability: Mutability, _ nick: String, _ blurb: String
  ) -> Property {
    Property(
      name, mutability,
      spec: {
        g_param_spec_int(name, nick, blurb, range.lowerBound, range.upperBound, value, mutability.flags)
      },
      read: { g_value_set_int($1, Int32(clamping: $0[keyPath: path])) },
      write: { $0[keyPath: path] = Int(g_value_get_int($1)) })
  }

  public static func uint64(
    _ name: String, _ path: Path<UInt64>, default value: UInt64, _ mutability: Mutability, _ nick: String,
    _ blurb: String
  ) -> Property {
    Property(
      name, mutability,
      spec: { g_param_spec_uint64(name, nick, blurb, 0, guint64.max, guint64(value), mutability.flags) },
      read: { g_value_set_uint64($1, guint64($0[keyPath: path])) },
      write: { $0[keyPath: path] = UInt64(g_value_get_uint64($1)) })
  }

  public static func double(
    _ name: String, _ path: Path<Double>, _ range: ClosedRange<Double>, default value: Double,
    _ mutability: Mutability, _ nick: String, _ blurb: String
  ) -> Property {
    Property(
      name, mutability,
      spec: {
        g_param_spec_double(name, nick, blurb, range.lowerBound, range.upperBound, value, mutability.flags)
      },
      read: { g_value_set_double($1, $0[keyPath: path]) },
      write: { $0[keyPath: path] = g_value_get_double($1) })
  }

  public static func bool(
    _ name: String, _ path: Path<Bool>, default value: Bool, _ mutability: Mutability, _ nick: String,
    _ blurb: String
  ) -> Property {
    Property(
      name, mutability,
      spec: { g_param_spec_boolean(name, nick, blurb, value ? 1 : 0, mutability.flags) },
      read: { g_value_set_boolean($1, $0[keyPath: path] ? 1 : 0) },
      write: { $0[keyPath: path] = g_value_get_boolean($1) != 0 })
  }

  /// A string; setting NULL stores the empty string.
  public static func string(
    _ name: String, _ path: Path<String>, default value: String?, _ mutability: Mutability, _ nick: String,
    _ blurb: String
  ) -> Property {
    Property(
      name, mutability,
      spec: { g_param_spec_string(name, nick, blurb, value, mutability.flags) },
      read: { g_value_set_string($1, $0[keyPath: path]) },
      write: { $0[keyPath: path] = g_value_get_string($1).map { String(cString: $0) } ?? "" })
  }

  /// An enum whose GType `type` was made by `registerEnum` from the same `CaseIterable` order.
  public static func enumeration<Case: CaseIterable & Equatable & Sendable>(
    _ name: String, _ path: Path<Case>, type: @escaping @Sendable () -> GType, default value: Case,
    _ mutability: Mutability, _ nick: String, _ blurb: String
  ) -> Property {
    Property(
      name, mutability,
      spec: { g_param_spec_enum(name, nick, blurb, type(), enumIndex(value), mutability.flags) },
      read: { g_value_set_enum($1, enumIndex($0[keyPath: path])) },
      write: {
        let cases = Array(Case.allCases)
        let index = Int(g_value_get_enum($1))
        if cases.indices.contains(index) { $0[keyPath: path] = cases[index] }
      })
  }
}

private func enumIndex<Case: CaseIterable & Equatable>(_ value: Case) -> gint {
  gint(Array(Case.allCases).firstIndex(of: value) ?? 0)
}

/// Registers a GEnum with one value per (nick, description), numbered from 0, and marks it as plugin API.
public func registerEnum(_ name: String, _ values: [(nick: String, blurb: String)]) -> GType {
  // GObject keeps the table and its strings for the life of the process.
  let table = UnsafeMutablePointer<GEnumValue>.allocate(capacity: values.count + 1)
  for (index, value) in values.enumerated() {
    table[index] = GEnumValue(
      value: gint(index), value_name: UnsafePointer(g_strdup(value.blurb)),
      value_nick: UnsafePointer(g_strdup(value.nick)))
  }
  table[values.count] = GEnumValue(value: 0, value_name: nil, value_nick: nil)
  let type = g_enum_register_static(name, table)
  gst_type_mark_as_plugin_api(type, GstPluginAPIFlags(rawValue: 0))
  return type
}

/// The properties of one class, numbered from 1 in table order.
public struct PropertyTable<Settings: Sendable>: Sendable {
  public let properties: [Property<Settings>]

  public init(_ properties: [Property<Settings>]) {
    self.properties = properties
  }

  /// Adds every property to a class; called from `classInit`.
  public func install(_ klass: UnsafeMutableRawPointer) {
    let objectClass = klass.assumingMemoryBound(to: GObjectClass.self)
    for (index, property) in properties.enumerated() {
      guard let spec = property.makeSpec() else { continue }
      g_object_class_install_property(objectClass, guint(index + 1), spec)
    }
  }

  /// The property behind an id GObject passes to a vmethod.
  public subscript(_ id: UInt32) -> Property<Settings>? {
    let index = Int(id) - 1
    return properties.indices.contains(index) ? properties[index] : nil
  }

  public func write(_ id: UInt32, _ value: UnsafePointer<GValue>, to settings: inout Settings) {
    self[id]?.write(&settings, value)
  }

  public func read(_ id: UInt32, from settings: Settings, into value: UnsafeMutablePointer<GValue>) {
    self[id]?.read(settings, value)
  }
}
