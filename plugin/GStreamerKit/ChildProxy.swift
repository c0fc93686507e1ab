/// Child objects of an element, reachable as `child::property` (GstChildProxy).

import CGStreamer

/// An element with named child objects.
public protocol ChildContainer: ObjectHalf {
  /// The children in order. A pointer stays valid while the element lives.
  var children: [ObjectHalf] { get }

  /// The child of that name; an implementation may make it on this look-up.
  func child(named name: String) -> ObjectHalf?
}

/// The GstChildProxy interface of a type whose Swift half is a `ChildContainer`.
public func childProxyInterface() -> InterfaceImplementation {
  InterfaceImplementation(type: gst_child_proxy_get_type()) { interface, _ in
    guard let interface else { return }
    let methods = interface.assumingMemoryBound(to: GstChildProxyInterface.self)
    methods.pointee.get_children_count = { proxy in
      guint(container(proxy)?.children.count ?? 0)
    }
    methods.pointee.get_child_by_index = { proxy, index in
      guard let children = container(proxy)?.children, index < guint(children.count) else { return nil }
      return retained(children[Int(index)])
    }
    methods.pointee.get_child_by_name = { proxy, name in
      guard let name, let child = container(proxy)?.child(named: String(cString: name)) else { return nil }
      return retained(child)
    }
  }
}

private func container(_ proxy: OpaquePointer?) -> (any ChildContainer)? {
  guard let proxy else { return nil }
  return swiftHalf(UnsafeMutableRawPointer(proxy), as: ObjectHalf.self) as? any ChildContainer
}

/// GstChildProxy hands its caller a reference.
private func retained(_ child: ObjectHalf) -> UnsafeMutablePointer<GObject>? {
  gst_object_ref(child.raw)?.assumingMemoryBound(to: GObject.self)
}

extension ChildContainer {
  /// Tells listeners that a child has appeared.
  public func announceAdded(_ child: ObjectHalf, name: String) {
    gst_child_proxy_child_added(OpaquePointer(raw), child.gobject, name)
  }

  /// Tells listeners that a child is gone.
  public func announceRemoved(_ child: ObjectHalf, name: String) {
    gst_child_proxy_child_removed(OpaquePointer(raw), child.gobject, name)
  }
}
