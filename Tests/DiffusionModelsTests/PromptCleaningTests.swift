import DiffusionLayers
import DiffusionModels
import TestSupport
import Testing

/// Prompt cleaning against diffusers' `prompt_clean` with ftfy.
@Suite struct PromptCleaningTests {
  @Test func textsAgreeWithTheReference() throws {
    let source = try ByteSource.open(Fixture.path("prompt_clean.json"))
    let table = try JSONValue.parse(try source.bytes(0..<source.count)).array ?? []
    #expect(table.count == 30)
    for entry in table {
      let pair = entry.array?.compactMap(\.string) ?? []
      try #require(pair.count == 2)
      // Scalars, because Swift's strings compare without regard to composition.
      #expect(Array(cleanedPrompt(pair[0]).unicodeScalars) == Array(pair[1].unicodeScalars), "\(pair[0])")
    }
  }
}
