// SPDX-License-Identifier: MIT
// load_cost [FOLDER]: what it costs to load the CIFAR-10 model, 143 MB in float, from files that are in
// memory already: seconds, and the most anonymous memory beside that of an idle process. Fails above 1.2
// times the parameters.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>

#include "io/io_support.hpp"
#include "io/torch_support.hpp"

namespace {

using namespace ddpm;
using Net = UNet<float, Cpu>;

std::int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "RssAnon:") {
      std::int64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  throw IoError("/proc/self/status: found no RssAnon, expected it");
}

// The most that the process holds while the value lives, looked at every tenth of a millisecond.
class PeakMemory {
 public:
  PeakMemory()
      : before_(anonymous_bytes()), watcher_([this] {
          while (!done_) {
            peak_ = std::max(peak_.load(), anonymous_bytes());
            std::this_thread::sleep_for(std::chrono::microseconds(100));
          }
        }) {}
  std::int64_t stop() {
    done_ = true;
    watcher_.join();
    return std::max(peak_.load(), anonymous_bytes()) - before_;
  }

 private:
  std::int64_t before_;
  std::atomic<std::int64_t> peak_{0};
  std::atomic<bool> done_{false};
  std::thread watcher_;
};

// Runs `action` in a process of its own; its result is the exit status.
template <class Action>
int apart(Action action) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 2;
    try {
      code = action();
    } catch (const std::exception& error) {
      std::printf("%s\n", error.what());
    }
    std::fflush(stdout);
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

// The same weights as floats, as bf16, and as a file of torch.
int write_folders(const std::filesystem::path& root) {
  const Net model(Cpu{}, UNetConfig::cifar10(), Rng{1});
  io::save_diffusers(root / "float", model, {});
  const io::SafeTensors file(io::find_unet_weights(root / "float"));
  std::vector<std::pair<std::string, std::string>> entries;
  std::vector<std::string> storages;
  std::vector<std::vector<bf16>> narrow;
  std::vector<io::TensorToWrite> tensors;
  for (const std::string& name : file.names()) {
    const io::StoredTensor& tensor = file.tensor(name);
    const auto values = file.as<float>(name);
    tensors.push_back(
        {name, io::DType::bf16, tensor.shape, narrow.emplace_back(values.begin(), values.end()).data()});
    std::vector<std::int64_t> strides(tensor.shape.size(), 1);
    for (std::size_t axis = strides.size() - 1; axis > 0; --axis)
      strides[axis - 1] = strides[axis] * tensor.shape[axis];
    const std::string storage =
        torch_support::storage("FloatStorage", std::to_string(storages.size()), tensor.numel());
    entries.emplace_back(name, torch_support::tensor(storage, 0, tensor.shape, strides));
    storages.emplace_back(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  for (const char* folder : {"bf16", "torch"}) {
    std::filesystem::create_directories(root / folder);
    io::write_unet_config(root / folder / "config.json", model.config());
  }
  io::write_safetensors(root / "bf16" / "diffusion_pytorch_model.safetensors", tensors);
  io::detail::write_file((root / "torch" / "diffusion_pytorch_model.bin").string(),
                         torch_support::torch_file(torch_support::state_dict(entries), storages));
  return 0;
}

int load(const std::filesystem::path& folder) {
  static_cast<void>(contents(io::find_unet_weights(folder)).size());  // into the page cache
  HostPool::instance().trim();
  PeakMemory memory;
  const auto start = std::chrono::steady_clock::now();
  Net model = io::load_diffusers<Net>(folder, Cpu{});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto peak = static_cast<double>(memory.stop());
  const auto parameters = static_cast<double>(model.parameters().values().bytes());
  std::printf("%-6s %.3f s, at most %.1f MB of anonymous memory, %.2f times the parameters\n",
              folder.filename().c_str(), seconds, peak / 1e6, peak / parameters);
  return peak <= 1.2 * parameters && model.parameters().gradients().empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const TemporaryFolder temporary;
  const std::filesystem::path root = argc > 1 ? argv[1] : temporary.path();
  int code = apart([&] { return write_folders(root); });
  for (const char* folder : {"float", "bf16", "torch"})
    code = std::max(code, apart([&] { return load(root / folder); }));
  return code;
}
