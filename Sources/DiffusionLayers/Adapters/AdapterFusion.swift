import Glibc
import Synchronization
import TensorCore

/// What other adapters of a layer do to one update under the modes other than `sum`.
struct LayerFusion: Sendable {
  /// Factor of the update under `norm`.
  var normGain: Float = 1
  /// Factor that gives it the norm that its own file states; 1 where it states none.
  var ownGain: Float = 1
  /// The update under `projected`, made when it is first asked for; nil where nothing is taken out.
  var projected: Deferred<LoRAPair>?
}

/// A value that is computed once, when it is first needed.
final class Deferred<Value: Sendable>: Sendable {
  private let state = Mutex<Value?>(nil)
  private let make: @Sendable () -> Value

  init(_ make: @escaping @Sendable () -> Value) { self.make = make }

  var value: Value {
    state.withLock { known in
      if let known { return known }
      let value = make()
      known = value
      return value
    }
  }
}

/// How adapters of one model are made to fit together: gains by LiON's norm consistency, and projections.
///
/// Gains are taken inside groups of one role. An adapter's norm in a layer is brought to the group's: the geometric mean
/// of the norms that the files state for themselves, as they were when trained; only where no file states one, of the
/// norms that are found. A file whose matrices were scaled later therefore acts as it was trained, and a further adapter
/// without such a statement leaves the others alone.
///
/// Reference: LiON-LoRA (2507.05678), norm consistency; the formula is ours.
enum AdapterFusion {
  /// Gains lie in 1/8…8: what differs by more is no member of the same family.
  static let gainLimit = 8.0
  /// Share of an adapter's squared norm that counts as its main directions.
  static let projectionShare = 0.9

  /// One adapter's part in a layer.
  struct Member {
    var adapter: Int
    var role: String
    /// ‖dW‖ as it is.
    var norm: Double
    /// ‖dW‖ as the file states it.
    var stated: Double?
    /// Norms below this take no part: the layer is as good as untouched.
    var floor: Double
  }

  /// The gain of every member of one layer.
  static func gains(_ members: [Member]) -> [Double] {
    var gains = [Double](repeating: 1, count: members.count)
    for role in Set(members.map(\.role)) {
      let group = members.indices.filter {
        members[$0].role == role && members[$0].norm > max(0, members[$0].floor)
      }
      guard group.count > 1 else { continue }
      let stated = group.compactMap { members[$0].stated }
      // Sorted, so that the sum, and with it every bit of the gains, is free of the order of loading.
      let norms = (stated.isEmpty ? group.map { members[$0].norm } : stated).map { log($0) }.sorted()
      let mean = norms.reduce(0, +) / Double(norms.count)
      for index in group {
        let gain = exp(mean - log(members[index].norm))
        gains[index] = max(1 / gainLimit, min(gainLimit, gain))
      }
    }
    return gains
  }

  /// The gain that brings a member to the norm that its file states.
  static func ownGain(_ member: Member) -> Double {
    guard let stated = member.stated, member.norm > max(0, member.floor) else { return 1 }
    return max(1 / gainLimit, min(gainLimit, stated / member.norm))
  }

  /// Adds to every update of every module what the others mean for it.
  /// - Parameters:
  ///   - roles: of every adapter; adapters without one share the empty role.
  ///   - stated: norms by module that the adapter's file states.
  static func fuse(
    _ updates: inout [String: [LayerUpdate]], roles: [String], stated: [[String: Double]]
  ) {
    guard roles.count > 1 else { return }
    let shared = updates.filter { $0.value.count > 1 }
    var norms: [[Double]] = roles.map { _ in [] }
    for update in updates.values.joined() {
      if let norm = update.weight?.norm { norms[update.adapterIndex].append(norm) }
    }
    let floors = norms.map { 1e-6 * ($0.isEmpty ? 0 : $0.sorted()[$0.count / 2]) }
    for (module, list) in shared {
      let members = list.map { update in
        Member(
          adapter: update.adapterIndex, role: roles[update.adapterIndex], norm: update.weight?.norm ?? 0,
          stated: stated[update.adapterIndex][module], floor: floors[update.adapterIndex])
      }
      let gains = gains(members)
      for index in list.indices {
        updates[module]?[index].fusion = LayerFusion(
          normGain: Float(gains[index]), ownGain: Float(ownGain(members[index])),
          projected: projection(of: index, in: list, roles))
      }
    }
  }

  /// The pair at `index` without the main directions of the pairs that come before it: those of an earlier role, and of
  /// the same role those loaded before.
  private static func projection(of index: Int, in list: [LayerUpdate], _ roles: [String])
    -> Deferred<LoRAPair>?
  {
    guard let pair = list[index].pair else { return nil }
    func place(_ update: LayerUpdate) -> (Int, Int) {
      (roleOrder.firstIndex(of: roles[update.adapterIndex]) ?? roleOrder.count, update.adapterIndex)
    }
    let before = list.filter { place($0) < place(list[index]) }.sorted { place($0) < place($1) }
      .compactMap(\.pair)
    guard !before.isEmpty else { return nil }
    return Deferred {
      var result = pair
      var basis: Tensor?
      for other in before {
        // Directions already taken out are left out of the next ones, so that all of them stay orthogonal.
        let free = basis.map(other.projected) ?? other
        guard let directions = free.mainDirections(share: projectionShare) else { continue }
        result = result.projected(outOf: directions)
        basis = basis.map { Tensor.concatenated([$0, directions], axis: 0) } ?? directions
      }
      return result
    }
  }

  private static let roleOrder = ["content", "style", "motion", "camera", "effect", "domain"]
}
