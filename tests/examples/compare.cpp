// SPDX-License-Identifier: MIT
// compare OURS.safetensors EXPECTED.safetensors LIMIT: `samples` of the first against `samples`, or the last state of `traj`,
// of the second. Exit status 1 where a number is more than LIMIT off.
#include <cmath>
#include <cstdio>

#include <ddpm/core/error.hpp>
#include <ddpm/io/safetensors.hpp>

int main(int argc, char** argv) try {
  using namespace ddpm;
  check<ConfigError>(argc == 4, "found ", argc - 1, " arguments, expected OURS EXPECTED LIMIT");
  const io::SafeTensors ours_file{argv[1]}, expected_file{argv[2]};
  const auto ours = ours_file.as<float>("samples");
  const bool is_trajectory = expected_file.contains("traj");
  auto shape = expected_file.tensor(is_trajectory ? "traj" : "samples").shape;
  auto expected = expected_file.as<float>(is_trajectory ? "traj" : "samples");
  if (is_trajectory) {
    expected.erase(expected.begin(),
                   expected.end() - std::ptrdiff_t(expected.size() / std::size_t(shape[0])));
    shape.erase(shape.begin());
  }
  check(ours_file.tensor("samples").shape == shape, "the samples have another shape than ", argv[2]);
  float error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const float difference = std::abs(ours[i] - expected[i]);
    error = difference <= error ? error : difference;  // NaN stays
    if (std::isnan(error)) break;
  }
  std::printf("largest error %.3e\n", double(error));
  return error <= std::stof(argv[3]) ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "compare: %s\n", error.what());
  return 1;
}
