public import ArgumentParser
public import DiffusionLayers
public import DiffusionPipelines

// The engine's enums as values of options.
extension Precision: ExpressibleByArgument {}
extension SchedulerKind: ExpressibleByArgument {}
extension ComposeMode: ExpressibleByArgument {}
extension ModelBenchmark.Workload: ExpressibleByArgument {}
