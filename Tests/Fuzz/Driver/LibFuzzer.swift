// What libFuzzer calls (llvm.org/docs/LibFuzzer.html).

import CAllocationCounter
import Glibc

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  driver.run(Array(UnsafeBufferPointer(start: data, count: size)))
  return 0
}

@main
enum Main {
  static func main() {
    var count = CommandLine.argc
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
    exit(LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) })
  }
}

@_cdecl("LLVMFuzzerCustomMutator")
public func mutate(_ data: UnsafeMutablePointer<UInt8>?, _ size: Int, _ limit: Int, _ seed: UInt32) -> Int {
  guard let data else { return 0 }
  return driver.mutate(data, size, limit, seed)
}

/// libFuzzer calls from one thread.
private nonisolated(unsafe) let driver = Driver()
