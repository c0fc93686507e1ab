import Foundation
import GStreamerKit
import TestSupport
import Testing

extension ElementTests {
  /// Videos and photos, picture by picture.
  @Suite struct Media {
    private var video: String { Fixture.root + "/media/big_buck_bunny_5s.mp4" }

    @Test func videosAreReadPictureByPicture() throws {
      let (one, other) = (try MediaReader(video), try MediaReader(video))
      var count = 0
      var last: MediaPicture?
      while let picture = try one.next() {
        if count < 10 { #expect(try other.next()?.pixels == picture.pixels) }
        if let last { #expect((last.width, last.height) == (picture.width, picture.height)) }
        last = picture
        count += 1
      }
      let end = try #require(last)
      #expect(count > 50 && end.pixels.count == end.width * end.height * 3 && one.rate != nil)
      #expect(try one.next() == nil)
    }

    @Test func aPhotoIsOnePicture() throws {
      let photo = try MediaReader(Fixture.root + "/docs/images/nano-styles.jpg")
      #expect(try photo.next() != nil)
      #expect(try photo.next() == nil)
    }

    @Test func brokenMediaAreNamed() throws {
      let folder = NSTemporaryDirectory() + "videolora-media-" + UUID().uuidString
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let head = try Data(contentsOf: URL(fileURLWithPath: video)).prefix(3000)
      for (name, bytes) in [("text.jpg", Data("no picture".utf8)), ("empty.mp4", Data()), ("cut.mp4", head)] {
        let path = "\(folder)/\(name)"
        try bytes.write(to: URL(fileURLWithPath: path))
        let error = #expect(throws: MediaError.self) { try MediaReader(path).next() }
        #expect("\(try #require(error))".contains(path))
      }
      // decodebin keeps an error to itself when its demuxer is quicker than its plugging: seen once in four times.
      for _ in 0..<20 {
        #expect(throws: MediaError.self) { try MediaReader("\(folder)/cut.mp4").next() }
      }
      let error = #expect(throws: MediaError.self) { try MediaReader(folder + "/none.mp4").next() }
      #expect("\(try #require(error))".contains("none.mp4"))
    }
  }
}
