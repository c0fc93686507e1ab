/// GObject types written in Swift.
///
/// A GObject instance made here carries one retained pointer behind its parent's fields: the *Swift half*, an instance of
/// an `ObjectHalf` subclass that holds all state. The C vmethods are closures that capture nothing; they find the
/// half again with `swiftHalf`. Sizes come from `g_type_query`, so no C layout is guessed.

public import CGStreamer

/// The Swift part of a GObject. Subclass it, override what the type needs, and register it with `registerType`.
///
/// GObject calls from any thread, so a subclass guards its own state (`Mutex`, `Monitor`); that is why this is unchecked.
open class ObjectHalf: @unchecked Sendable {
  /// The GObject this half belongs to. Not retained: the object owns the half.
  public let raw: UnsafeMutableRawPointer

  public required init(_ raw: UnsafeMutableRawPointer) {
    self.raw = raw
  }

  /// Fills vmethods, properties and metadata of the class; called once per type.
  open class func classInit(_ klass: UnsafeMutableRawPointer) {}

  /// Called after the construct properties; pads are added here.
  open func constructed() {}

  /// Drops references to other objects; may be called more than once.
  open func dispose() {}

  open func setProperty(
    _ id: UInt32, _ value: UnsafePointer<GValue>, _ spec: UnsafeMutablePointer<GParamSpec>
  ) {}

  open func getProperty(
    _ id: UInt32, _ value: UnsafeMutablePointer<GValue>, _ spec: UnsafeMutablePointer<GParamSpec>
  ) {}

  public final var gobject: UnsafeMutablePointer<GObject> { raw.assumingMemoryBound(to: GObject.self) }
  public final var gstObject: UnsafeMutablePointer<GstObject> { raw.assumingMemoryBound(to: GstObject.self) }
}

/// What GObject keeps for one registered type. Never freed, as the type itself.
private final class TypeRecord {
  let half: ObjectHalf.Type
  let offset: Int
  let parent: GType

  init(half: ObjectHalf.Type, offset: Int, parent: GType) {
    self.half = half
    self.offset = offset
    self.parent = parent
  }
}

private let recordQuark: GQuark = g_quark_from_string("gst-videolora-swift-type")

/// An interface to add to a type: its GType and the function that fills the interface's vmethods.
public struct InterfaceImplementation {
  let type: GType
  let fill: GInterfaceInitFunc

  public init(type: GType, fill: @escaping GInterfaceInitFunc) {
    self.type = type
    self.fill = fill
  }
}

/// Registers `half` as a subclass of `parent` under a process-wide type name; 0 when GObject refuses.
public func registerType(
  _ half: ObjectHalf.Type, name: String, parent: GType, interfaces: [InterfaceImplementation] = []
) -> GType {
  var query = GTypeQuery()
  g_type_query(parent, &query)
  let offset = (Int(query.instance_size) + 7) & ~7
  let record = TypeRecord(half: half, offset: offset, parent: parent)
  let recordPointer = Unmanaged.passRetained(record).toOpaque()

  var info = GTypeInfo()
  info.class_size = guint16(query.class_size)
  info.instance_size = guint16(offset + MemoryLayout<UnsafeRawPointer>.size)
  info.class_data = UnsafeRawPointer(recordPointer)
  info.class_init = { klass, data in
    guard let klass, let data else { return }
    let record = Unmanaged<TypeRecord>.fromOpaque(data).takeUnretainedValue()
    installObjectMethods(klass.assumingMemoryBound(to: GObjectClass.self))
    record.half.classInit(klass)
  }
  info.instance_init = { instance, klass in
    guard let instance, let klass else { return }
    // The class argument names the type being made; the instance still says "parent" at this point.
    let type = klass.assumingMemoryBound(to: GTypeClass.self).pointee.g_type
    guard let record = typeRecord(type) else { return }
    let raw = UnsafeMutableRawPointer(instance)
    let half = record.half.init(raw)
    raw.storeBytes(
      of: Unmanaged.passRetained(half).toOpaque(), toByteOffset: record.offset,
      as: UnsafeMutableRawPointer.self)
  }
  let type = g_type_register_static(parent, name, &info, GTypeFlags(rawValue: 0))
  guard type != 0 else { return 0 }
  g_type_set_qdata(type, recordQuark, recordPointer)
  for interface in interfaces {
    var implementation = GInterfaceInfo()
    implementation.interface_init = interface.fill
    g_type_add_interface_static(type, interface.type, &implementation)
  }
  return type
}

/// The Swift half of a GObject made by `registerType`, or nil for any other object.
public func swiftHalf<Half: ObjectHalf>(_ instance: UnsafeMutableRawPointer?, as: Half.Type = Half.self)
  -> Half?
{
  guard let instance, let record = typeRecord(typeOf(instance)) else { return nil }
  guard let pointer = instance.load(fromByteOffset: record.offset, as: UnsafeMutableRawPointer?.self) else {
    return nil
  }
  return Unmanaged<ObjectHalf>.fromOpaque(pointer).takeUnretainedValue() as? Half
}

/// The class structure of the parent type, for chaining up.
public func parentClass<Class>(
  of instance: UnsafeMutableRawPointer, as: Class.Type = Class.self
) -> UnsafeMutablePointer<Class>? {
  guard let record = typeRecord(typeOf(instance)) else { return nil }
  return g_type_class_peek(record.parent)?.assumingMemoryBound(to: Class.self)
}

/// The GType of an instance.
public func typeOf(_ instance: UnsafeMutableRawPointer) -> GType {
  instance.assumingMemoryBound(to: GTypeInstance.self).pointee.g_class.pointee.g_type
}

private func typeRecord(_ type: GType) -> TypeRecord? {
  guard let pointer = g_type_get_qdata(type, recordQuark) else { return nil }
  return Unmanaged<TypeRecord>.fromOpaque(pointer).takeUnretainedValue()
}

/// The GObject vmethods every type shares: each finds the half, then chains up where GObject asks for it.
private func installObjectMethods(_ klass: UnsafeMutablePointer<GObjectClass>) {
  klass.pointee.set_property = { object, id, value, spec in
    guard let object, let value, let spec, let half = swiftHalf(object, as: ObjectHalf.self) else { return }
    half.setProperty(id, value, spec)
  }
  klass.pointee.get_property = { object, id, value, spec in
    guard let object, let value, let spec, let half = swiftHalf(object, as: ObjectHalf.self) else { return }
    half.getProperty(id, value, spec)
  }
  klass.pointee.constructed = { object in
    guard let object else { return }
    parentClass(of: object, as: GObjectClass.self)?.pointee.constructed?(object)
    swiftHalf(object, as: ObjectHalf.self)?.constructed()
  }
  klass.pointee.dispose = { object in
    guard let object else { return }
    swiftHalf(object, as: ObjectHalf.self)?.dispose()
    parentClass(of: object, as: GObjectClass.self)?.pointee.dispose?(object)
  }
  klass.pointee.finalize = { object in
    guard let object else { return }
    let chainUp = parentClass(of: object, as: GObjectClass.self)?.pointee.finalize
    if let record = typeRecord(typeOf(object)) {
      let raw = UnsafeMutableRawPointer(object)
      if let pointer = raw.load(fromByteOffset: record.offset, as: UnsafeMutableRawPointer?.self) {
        raw.storeBytes(of: nil, toByteOffset: record.offset, as: UnsafeMutableRawPointer?.self)
        Unmanaged<ObjectHalf>.fromOpaque(pointer).release()
      }
    }
    chainUp?(object)
  }
}
