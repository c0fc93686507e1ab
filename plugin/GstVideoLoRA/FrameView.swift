/// Pixels of a GstBuffer as the engine's RGB8 frames, and back; the only place that touches mapped memory.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Glibc

/// A mapped video frame. Rows are read through their strides, so any padding and any plane offset is fine.
struct FrameView: ~Copyable {
  private var frame: GstVideoFrame
  private let width: Int
  private let height: Int
  /// Bytes from one pixel to the next: 3 for RGB, 4 for RGBx.
  private let pixelStride: Int

  /// Maps a buffer; nil when it does not hold a frame of that format.
  init?(_ buffer: UnsafeMutablePointer<GstBuffer>, _ info: GstVideoInfo, writing: Bool) {
    var info = info
    var mapped = GstVideoFrame()
    let flags = GstMapFlags(rawValue: writing ? GST_MAP_WRITE.rawValue : GST_MAP_READ.rawValue)
    guard gst_video_frame_map(&mapped, &info, buffer, flags) != 0 else { return nil }
    frame = mapped
    width = Int(info.width)
    height = Int(info.height)
    pixelStride = info.finfo.pointee.format == GST_VIDEO_FORMAT_RGB ? 3 : 4
  }

  deinit {
    var frame = frame
    gst_video_frame_unmap(&frame)
  }

  /// Copies the picture out, [height, width, RGB] with tight rows.
  borrowing func read() -> Frame? {
    guard let base = frame.data.0?.assumingMemoryBound(to: UInt8.self) else { return nil }
    let stride = Int(frame.info.stride.0)
    let (width, height, pixelStride) = (width, height, pixelStride)
    let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { target, count in
      for y in 0..<height {
        let row = base + y * stride
        let into = target.baseAddress! + y * width * 3
        if pixelStride == 3 {
          memcpy(into, row, width * 3)
        } else {
          for x in 0..<width {
            into[x * 3] = row[x * 4]
            into[x * 3 + 1] = row[x * 4 + 1]
            into[x * 3 + 2] = row[x * 4 + 2]
          }
        }
      }
      count = width * height * 3
    }
    return Frame(width: width, height: height, pixels: pixels)
  }

  /// Copies a picture in. False when its size is another one.
  borrowing func write(_ picture: Frame) -> Bool {
    guard let base = frame.data.0?.assumingMemoryBound(to: UInt8.self), picture.width == width,
      picture.height == height, picture.pixels.count == width * height * 3
    else { return false }
    let stride = Int(frame.info.stride.0)
    picture.pixels.withUnsafeBufferPointer { source in
      for y in 0..<height {
        let row = base + y * stride
        let from = source.baseAddress! + y * width * 3
        if pixelStride == 3 {
          memcpy(row, from, width * 3)
        } else {
          for x in 0..<width {
            row[x * 4] = from[x * 3]
            row[x * 4 + 1] = from[x * 3 + 1]
            row[x * 4 + 2] = from[x * 3 + 2]
            row[x * 4 + 3] = 255
          }
        }
      }
    }
    return true
  }
}
