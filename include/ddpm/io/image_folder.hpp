// SPDX-License-Identifier: MIT
// A folder of PNG and JPEG files as an ImageSet, decoded once and kept in a cache file.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/core/image_set.hpp>
#include <ddpm/core/parallel.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/image_cache.hpp>
#include <ddpm/io/image.hpp>
#include <ddpm/io/transform.hpp>

namespace ddpm::io {

// What becomes of an image that is no square: its middle is taken, or it is squeezed whole.
enum class Crop { center, none };

// What a file that cannot be read does: it ends the reading, or is left out.
enum class OnBad { fatal, skip };

struct ImageFolderOptions {
  int size = 32;     // side of the images, in pixels
  int channels = 3;  // 3: RGB, 1: gray
  Crop crop = Crop::center;
  OnBad on_bad = OnBad::fatal;
  std::filesystem::path cache = {};  // empty: FOLDER/.ddpm-cache-SIZExCHANNELS.bin; /dev/null for none
};

struct ImageFolder {
  ImageSet images;                   // in the order of the files' names
  std::vector<std::string> classes;  // name of each label
  std::vector<std::string> skipped;  // why, for each file that was left out
};

namespace detail {

struct ListedFile {
  std::filesystem::path name;  // within the folder
  std::uintmax_t size = 0;
  std::int64_t modified = 0;
};

inline bool has_image_suffix(const std::filesystem::path& path) {
  std::string suffix = path.extension().string();
  std::ranges::transform(suffix, suffix.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return suffix == ".png" || suffix == ".jpg" || suffix == ".jpeg";
}

// Sorted by name, folder by folder, bytes as unsigned numbers. Hidden files and folders are passed over.
inline std::vector<ListedFile> list_images(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  constexpr int deepest = 32;
  std::vector<ListedFile> files;
  std::error_code error, unknown;
  fs::path last = folder;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::follow_directory_symlink, error);
  for (; !error && entry != fs::end(entry); entry.increment(error)) {
    last = entry->path();
    if (entry.depth() > deepest)
      fail(last.string(), message("more than ", deepest, " folders in one another"),
           "no link that leads back");
    if (last.filename().string().starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (has_image_suffix(last) && !entry->is_directory(unknown)) {
      // Of a file that has no size or time, reading will say why.
      const auto time = entry->last_write_time(unknown).time_since_epoch().count();
      files.push_back(
          {last.lexically_relative(folder), entry->file_size(unknown), static_cast<std::int64_t>(time)});
    }
  }
  if (error) fail(last.string(), message("an error (", error.message(), ")"), "a folder that can be read");
  if (files.empty()) fail(folder.string(), "no .png, .jpg or .jpeg file", "a folder of images");
  std::ranges::sort(files, {}, &ListedFile::name);
  return files;
}

// Everything that the decoded images depend on.
inline std::string cache_key(const std::vector<ListedFile>& files, const ImageFolderOptions& options) {
  std::string key =
      message("ddpm images 1\nsize ", options.size, " channels ", options.channels,
              options.crop == Crop::center ? " cropped" : " squeezed", " files ", files.size(), '\n');
  for (const ListedFile& file : files)
    key += message(file.name.string(), '\0', file.size, ' ', file.modified, '\n');
  return key;
}

inline Image read_for_training(const std::filesystem::path& path, const ImageFolderOptions& options) {
  const Image image = with_channels(read_image(path), options.channels);
  return resized(options.crop == Crop::center ? center_cropped(image) : image, options.size, options.size);
}

// Decodes the images that are still missing. Returns why one could not be, and an empty text for each other.
inline std::vector<std::string> decode_missing(const std::filesystem::path& folder,
                                               const std::vector<ListedFile>& files,
                                               const ImageFolderOptions& options, DecodedImages& decoded) {
  std::vector<std::string> reasons(files.size());
  parallel_for(std::ssize(files), [&](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    if (decoded.has(i)) return;
    try {
      decoded.put(i, read_for_training(folder / files[i].name, options).data);
    } catch (const IoError& error) {
      if (options.on_bad == OnBad::fatal) throw;
      reasons[i] = error.what();
    }
  });
  return reasons;
}

// Classes by name, and the label of each file that has been read.
inline void set_labels(const std::vector<ListedFile>& files, const DecodedImages& decoded, ImageFolder& out) {
  if (!std::ranges::all_of(files, [](const ListedFile& file) { return file.name.has_parent_path(); })) return;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string name = files[i].name.begin()->string();
    if (out.classes.empty() || out.classes.back() != name) out.classes.push_back(name);
    if (decoded.has(i)) out.images.labels.push_back(static_cast<std::int32_t>(out.classes.size() - 1));
  }
}

}  // namespace detail

// Reads every .png, .jpg and .jpeg below `folder`, in whatever case; links to folders are followed, hidden
// files are not read. Each is decoded by read_image(), which ignores an EXIF orientation, then made gray or
// RGB, cropped and resized (io/transform.hpp). The sub-folder of `folder` that an image lies in is its class;
// labels number the sub-folders that hold images by their sorted names. Where an image lies in none, there are
// no labels at all.
//
// Decoding is done once, on all threads. The cache holds until a file is added, removed, renamed or changed
// in size or time, or an option above is; it is rebuilt then, and also when it is damaged. Where it cannot be
// written, there is none.
inline ImageFolder image_folder(const std::filesystem::path& folder, const ImageFolderOptions& options = {}) {
  constexpr int largest = 1 << 14;
  check<ConfigError>(
      options.size >= 1 && options.size <= largest && (options.channels == 1 || options.channels == 3),
      "image_folder: images of ", options.size, "x", options.size, "x", options.channels,
      " asked for, expected a size from 1 to ", largest, " and 1 or 3 channels");
  const std::vector<detail::ListedFile> files = detail::list_images(folder);
  const std::string key = detail::cache_key(files, options);
  const std::string cache =
      options.cache.empty() ? folder / message(".ddpm-cache-", options.size, "x", options.channels, ".bin")
                            : options.cache;
  detail::DecodedImages decoded(files.size(),
                                static_cast<std::size_t>(options.size * options.size * options.channels));
  decoded.load(cache, key);
  const std::int64_t cached = decoded.present();
  ImageFolder out;
  out.skipped = detail::decode_missing(folder, files, options, decoded);
  std::erase(out.skipped, "");
  out.images.count = decoded.present();
  if (out.images.count == 0)
    detail::fail(
        folder.string(),
        message(files.size(), " files of which none can be read, the first because of ", out.skipped.front()),
        "images");
  if (out.images.count != cached) decoded.save(cache, key);
  detail::set_labels(files, decoded, out);
  out.images.height = out.images.width = options.size;
  out.images.channels = options.channels;
  out.images.pixels = std::move(decoded).take();
  return out;
}

}  // namespace ddpm::io
