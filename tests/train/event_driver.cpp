// SPDX-License-Identifier: MIT
// event_driver FOLDER: the event files of a run that logged until step 40 and was continued from step 20.

#include <filesystem>

#include <ddpm/io/tensorboard.hpp>

int main(int, char** argv) {
  using ddpm::io::EventWriter;
  {
    EventWriter first(argv[1], 1);
    for (const int step : {10, 20, 30, 40}) first.scalar("loss", step, 1.0 / step);
  }
  EventWriter second(argv[1], 21);
  second.scalar("loss", 30, 0.5);
  second.scalar("loss", 3'000'000'000, 0.25);
  second.image("samples", 30, {{0, 128, 255, 7, 8, 9}, 1, 2, 3});
}
