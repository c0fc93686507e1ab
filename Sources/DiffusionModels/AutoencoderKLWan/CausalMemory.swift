import TensorCore

/// The last inputs of each causal layer: all that a stream through such a network keeps of the past.
///
/// Each layer owns a slot, given out while the network is built. Frames are shared with the layer that made
/// them, never copied.
struct CausalMemory: Sendable {
  private var frames: [[Tensor]]
  private var started: [Bool]

  init(slots: Int) {
    frames = [[Tensor]](repeating: [], count: slots)
    started = [Bool](repeating: false, count: slots)
  }

  /// The kept frames of a slot, oldest first.
  subscript(_ slot: Int) -> [Tensor] { frames[slot] }

  /// Appends a frame to a slot and keeps the last `count` there.
  mutating func append(_ frame: Tensor, to slot: Int, keeping count: Int) {
    frames[slot].append(frame)
    frames[slot].removeFirst(max(0, frames[slot].count - count))
  }

  /// Marks a slot as used and returns whether this was the first time.
  mutating func start(_ slot: Int) -> Bool {
    defer { started[slot] = true }
    return !started[slot]
  }
}

/// Gives out the slots of a `CausalMemory` while a network is built.
struct CausalSlots {
  private(set) var count = 0

  mutating func next() -> Int {
    defer { count += 1 }
    return count
  }
}
