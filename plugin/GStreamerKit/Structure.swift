/// GstStructures built field by field: `gst_structure_new` is variadic and does not import.

public import CGStreamer

/// A structure under construction. `take()` hands it to C; one that is never taken is freed.
public final class StructureBuilder {
  private var raw: UnsafeMutablePointer<GstStructure>?

  public init(_ name: String) {
    raw = gst_structure_new_empty(name)
  }

  /// Continues a structure that someone else owns.
  public init(extending structure: UnsafeMutablePointer<GstStructure>) {
    raw = structure
    isOwned = false
  }

  private var isOwned = true

  deinit {
    if isOwned, let raw { gst_structure_free(raw) }
  }

  @discardableResult
  public func set(_ field: String, _ value: String) -> Self {
    set(field, gsw_type_string()) { g_value_set_string(&$0, value) }
  }

  @discardableResult
  public func set(_ field: String, _ value: Int) -> Self {
    set(field, gsw_type_int64()) { g_value_set_int64(&$0, gint64(value)) }
  }

  @discardableResult
  public func set(_ field: String, _ value: UInt64) -> Self {
    set(field, gsw_type_uint64()) { g_value_set_uint64(&$0, guint64(value)) }
  }

  @discardableResult
  public func set(_ field: String, _ value: Double) -> Self {
    set(field, gsw_type_double()) { g_value_set_double(&$0, value) }
  }

  /// A GstValueArray of strings.
  @discardableResult
  public func set(_ field: String, _ values: [String]) -> Self {
    set(field, gsw_type_array()) { array in
      for value in values {
        var item = GValue()
        g_value_init(&item, gsw_type_string())
        g_value_set_string(&item, value)
        gst_value_array_append_and_take_value(&array, &item)
      }
    }
  }

  private func set(_ field: String, _ type: GType, _ fill: (inout GValue) -> Void) -> Self {
    guard let raw else { return self }
    var value = GValue()
    g_value_init(&value, type)
    fill(&value)
    gst_structure_take_value(raw, field, &value)
    return self
  }

  /// The structure, owned by the caller from here on.
  public func take() -> UnsafeMutablePointer<GstStructure>? {
    isOwned = false
    return raw
  }
}
