// SPDX-License-Identifier: MIT
// metrics.jsonl across resumes, and the report.

#include <filesystem>
#include <string>
#include <vector>

#include <ddpm/io/metrics_log.hpp>
#include <ddpm/io/report.hpp>

#include "catch_shim.hpp"
#include "io/io_support.hpp"

using namespace ddpm;
using io::MetricsLog;

TEST_CASE("a log is continued after the step of a checkpoint", "[metrics]") {
  const TemporaryFolder folder;
  {
    MetricsLog log(folder.path(), 0);
    for (const int step : {10, 20, 30, 40}) log.write(step, {{"loss", 1.0 / step}, {"lr", 0.5}});
    log.write(40, {{"held_out_loss", 0.125}});
  }
  // A process that was killed may leave half a line.
  folder.put("metrics.jsonl", contents(folder / "metrics.jsonl") + "{\"step\": 15, \"lo");
  MetricsLog log(folder.path(), 25);
  CHECK(contents(folder / "metrics.jsonl") ==
        "{\"step\":10,\"loss\":0.1,\"lr\":0.5}\n{\"step\":20,\"loss\":0.05,\"lr\":0.5}\n");
  CHECK(log.curve("loss").steps == std::vector<double>{10, 20});
  CHECK(log.curve("loss").values == std::vector<double>{0.1, 0.05});
  CHECK(log.curve("held_out_loss").steps.empty());
  log.write(30, {{"loss", 0.25}});
  CHECK(log.curve("loss").steps == std::vector<double>{10, 20, 30});
  CHECK(contents(folder / "metrics.jsonl").ends_with("{\"step\":30,\"loss\":0.25}\n"));
  CHECK(log.plot("loss", {}) == folder / "loss.png");
  CHECK(io::read_png(folder / "loss.png").width == 960);
  CHECK_FALSE(log.plot("nothing", {}));
}

TEST_CASE("a new log forgets the old", "[metrics]") {
  const TemporaryFolder folder;
  folder.put("metrics.jsonl", "{\"step\": 1, \"loss\": 2}\n");
  MetricsLog log(folder.path(), 0);
  CHECK(contents(folder / "metrics.jsonl").empty());
}

TEST_CASE("base64", "[report]") {
  // RFC 4648, section 10.
  const std::vector<std::pair<std::string, std::string>> known = {{"", ""},
                                                                  {"f", "Zg=="},
                                                                  {"fo", "Zm8="},
                                                                  {"foo", "Zm9v"},
                                                                  {"foob", "Zm9vYg=="},
                                                                  {"fooba", "Zm9vYmE="},
                                                                  {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : known) CHECK(io::detail::base64(plain) == coded);
  CHECK(io::detail::base64("\xff\xfe\xfd") == "//79");
}

TEST_CASE("a report needs nothing beside itself", "[report]") {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> pixels = {1, 2, 3, 4};
  io::write_png(folder / "grid.png", pixels, 2, 2, 1);
  io::write_report(folder / "report.html", {.title = "a <run> & \"more\"",
                                            .figures = {{"samples", folder / "grid.png", true}},
                                            .tables = {{"facts", {{"loss", "<0.1"}}}}});
  const std::string html = contents(folder / "report.html");
  CHECK(mentions(html, "<title>a &lt;run&gt; &amp; &quot;more&quot;</title>"));
  CHECK(mentions(html,
                 "src=\"data:image/png;base64," + io::detail::base64(contents(folder / "grid.png")) + "\""));
  CHECK(mentions(html, "<td>loss</td><td>&lt;0.1</td>"));
  for (const char* outside : {"http:", "https:", "//cdn", "<script", "<link", "url(", "@import"})
    CHECK_FALSE(mentions(html, outside));
  CHECK(mentions(failure([&] {
                   io::write_report(folder / "r.html", {.title = "", .figures = {{"", folder / "none.png"}}});
                 }),
                 "none.png"));
}
