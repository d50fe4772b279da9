// SPDX-License-Identifier: MIT
// Graphs: work of a device that is recorded once and launched as one, again and again.
//
// device.capture(body) runs body, whose launches, copies and fills of device memory are not done but recorded; launch()
// on what it returns does them, in order with the device's other work. The graph reads and writes the addresses that it
// saw: what body takes from the device's pool stays with the graph, what it borrows must stay where it is. Values that
// change from launch to launch lie in device memory. Body cannot wait for the device nor copy from or to the host,
// which is a DeviceError.
#pragma once

#include <concepts>
#include <optional>
#include <type_traits>
#include <utility>

#include <ddpm/core/debug.hpp>
#include <ddpm/core/device.hpp>
#include <ddpm/core/error.hpp>

namespace ddpm {

template <class D>
concept GraphDevice = Device<D> && requires(const D device, void (*body)(), typename D::Graph graph) {
  { device.capture(body) } -> std::same_as<typename D::Graph>;
  graph.launch();
};

namespace detail {

struct NoGraph {};
template <class D>
struct GraphOf : std::type_identity<NoGraph> {};
template <GraphDevice D>
struct GraphOf<D> : std::type_identity<typename D::Graph> {};

// What devices throw where `call` cannot be part of a graph.
inline DeviceError recording_error(const char* call, int code) {
  return DeviceError(
      message(call,
              ": the device is recording a graph, expected only launches, copies and fills of device memory"),
      code);
}

}  // namespace detail

// Work that is done many times. On a device that has graphs, all but the first few times are launches of a recording;
// those fill the pool, load the kernels and prepare weights. A body without host reads is the same work either way, bit
// for bit; what it does on the host happens in the first runs only.
template <Device D>
class Replay {
 public:
  static constexpr int warm_up = 3;

  template <class Body>
  void operator()(const D& device, Body&& body) {
    if constexpr (GraphDevice<D>) {
      if (!graph_ && runs_++ >= warm_up && !DebugOptions::get().any()) graph_.emplace(device.capture(body));
      if (graph_) return graph_->launch();
    }
    body();
  }

  bool is_recorded() const { return graph_.has_value(); }
  void forget() {
    graph_.reset();
    runs_ = 0;
  }

 private:
  std::optional<typename detail::GraphOf<D>::type> graph_;
  int runs_ = 0;
};

}  // namespace ddpm
