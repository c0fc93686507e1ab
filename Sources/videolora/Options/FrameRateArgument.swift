import ArgumentParser
package import DiffusionPipelines

extension FrameRate: ExpressibleByArgument {}
