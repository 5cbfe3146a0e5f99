// Capture, instantiation and replay by the driver.
#include "tools/winnow/backends/LaunchGraph.h"
#include <utility>

namespace winnow {

Result<LaunchGraph> LaunchGraph::capture(const std::shared_ptr<Driver> &driver, CUstream stream,
                                         const std::function<Status()> &launch) {
  const DriverApi &api = driver->api();
  if (Status begun =
          driver->check(api.cuStreamBeginCapture_v2(stream, cuda::kCaptureModeThreadLocal),
                        "beginning a capture");
      !begun)
    return tl::unexpected(begun.error());
  Status launched = launch();
  CUgraph captured = nullptr;
  Status ended = driver->check(api.cuStreamEndCapture(stream, &captured), "ending a capture");
  LaunchGraph result;
  result.driver = driver;
  if (launched && ended)
    ended = driver->check(api.cuGraphInstantiateWithFlags(&result.graph, captured, 0),
                          "making a graph");
  if (captured)
    api.cuGraphDestroy(captured);
  if (!launched || !ended)
    return tl::unexpected(launched ? ended.error() : launched.error());
  return result;
}

LaunchGraph::LaunchGraph(LaunchGraph &&other) noexcept
    : driver(std::move(other.driver)), graph(std::exchange(other.graph, nullptr)) {}

LaunchGraph &LaunchGraph::operator=(LaunchGraph &&other) noexcept {
  std::swap(driver, other.driver);
  std::swap(graph, other.graph);
  return *this;
}

LaunchGraph::~LaunchGraph() {
  if (graph)
    driver->api().cuGraphExecDestroy(graph);
}

Status LaunchGraph::replay(CUstream stream) const {
  return driver->check(driver->api().cuGraphLaunch(graph, stream), "replaying a graph");
}

} // namespace winnow
