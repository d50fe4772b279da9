// SPDX-License-Identifier: MIT
// ZipArchive: the entries of a zip file in memory, zip64 included, every claim checked against the file.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/byte_reader.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

struct ZipEntry {
  std::uint16_t method = 0;  // 0: stored, 8: deflated
  std::uint32_t crc = 0;
  std::size_t size = 0;                    // once inflated
  std::span<const std::byte> packed = {};  // as it stands in the file
};

class ZipArchive {
 public:
  // Borrows the bytes.
  ZipArchive(std::span<const std::byte> file, const std::string& path)
      : file_(file), path_(path), budget_(file.size() * most_inflation + least_budget) {
    read_directory(find_directory());
  }

  const std::map<std::string, ZipEntry, std::less<>>& entries() const { return entries_; }

  // The bytes of an entry, valid as long as the archive and the file; its checksum is checked.
  std::span<const std::byte> read(const std::string& name, const ZipEntry& entry) {
    const std::span<const std::byte> bytes = entry.method == 0 ? entry.packed : inflate_entry(name, entry);
    if (::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()) != entry.crc)
      fail(path_, message("a wrong checksum of ", in_quotes(name)), "a file that was not damaged");
    return bytes;
  }

 private:
  // Weights hardly shrink: a file that grows more than this is a bomb.
  static constexpr std::size_t most_inflation = 16, least_budget = std::size_t{16} << 20;
  static constexpr std::size_t end_size = 22, locator_size = 20, longest_comment = 0xffff;
  static constexpr std::uint16_t no_u16 = 0xffff;  // says: see the zip64 field
  static constexpr std::uint32_t no_u32 = 0xffffffff;

  struct Directory {
    std::uint64_t count, size, offset;
  };
  struct Range {
    std::size_t begin, end;
  };

  ByteReader reader_at(std::uint64_t offset, const char* what) const {
    if (offset > file_.size())
      fail(path_, message(what, " at byte ", offset), message("one within the ", file_.size(), " bytes"));
    return {file_.subspan(static_cast<std::size_t>(offset)), path_, what};
  }

  void expect_signature(ByteReader& reader, std::uint32_t signature, const char* what) const {
    if (reader.number<std::uint32_t>() != signature)
      fail(path_, message("no ", what, " where it should be"), "a zip archive");
  }

  // The record at the end, behind which only its comment may follow.
  std::size_t find_end() const {
    if (file_.size() >= end_size)
      for (std::size_t comment = 0; comment <= std::min(longest_comment, file_.size() - end_size);
           ++comment) {
        const std::size_t at = file_.size() - end_size - comment;
        ByteReader reader = reader_at(at, "end of directory");
        if (reader.number<std::uint32_t>() != 0x06054b50) continue;
        reader.take(end_size - 6);
        if (reader.number<std::uint16_t>() == comment) return at;
      }
    fail(path_, "no end of a zip archive", "a complete zip archive");
  }

  Directory find_directory() const {
    const std::size_t at = find_end();
    ByteReader end = reader_at(at + 4, "end of directory");
    const auto disk = end.number<std::uint16_t>(), first_disk = end.number<std::uint16_t>();
    end.take(2);
    const auto count = end.number<std::uint16_t>();
    const auto size = end.number<std::uint32_t>(), offset = end.number<std::uint32_t>();
    if (count == no_u16 || size == no_u32 || offset == no_u32) return find_zip64_directory(at);
    if (disk != 0 || first_disk != 0) fail(path_, "a zip archive in several parts", "one file");
    return {count, size, offset};
  }

  Directory find_zip64_directory(std::size_t end) const {
    if (end < locator_size) fail(path_, "no zip64 locator where it should be", "a zip archive");
    ByteReader locator = reader_at(end - locator_size, "zip64 locator");
    expect_signature(locator, 0x07064b50, "zip64 locator");
    locator.take(4);
    ByteReader record = reader_at(locator.number<std::uint64_t>(), "zip64 end of directory");
    expect_signature(record, 0x06064b50, "zip64 end of directory");
    record.take(28);
    const auto count = record.number<std::uint64_t>(), size = record.number<std::uint64_t>();
    return {count, size, record.number<std::uint64_t>()};
  }

  void read_directory(const Directory& directory) {
    ByteReader rest = reader_at(directory.offset, "directory");
    ByteReader reader(rest.take(directory.size), path_, "the directory");
    std::vector<Range> ranges;
    for (std::uint64_t i = 0; i < directory.count; ++i)
      ranges.push_back(read_entry(reader, static_cast<std::size_t>(directory.offset)));
    std::ranges::sort(ranges, {}, &Range::begin);
    for (std::size_t i = 1; i < ranges.size(); ++i)
      if (ranges[i].begin < ranges[i - 1].end)
        fail(path_, message("two entries over byte ", ranges[i].begin), "entries that do not overlap");
  }

  // One entry of the directory; returns where it lies.
  Range read_entry(ByteReader& reader, std::size_t directory) {
    expect_signature(reader, 0x02014b50, "entry of the directory");
    reader.take(4);
    const auto flags = reader.number<std::uint16_t>();
    ZipEntry entry;
    entry.method = reader.number<std::uint16_t>();
    reader.take(4);
    entry.crc = reader.number<std::uint32_t>();
    std::uint64_t packed = reader.number<std::uint32_t>(), size = reader.number<std::uint32_t>();
    const auto name_size = reader.number<std::uint16_t>(), extra_size = reader.number<std::uint16_t>(),
               comment_size = reader.number<std::uint16_t>();
    reader.take(8);
    std::uint64_t offset = reader.number<std::uint32_t>();
    const std::string name(reader.text(name_size));
    read_zip64_field({reader.take(extra_size), path_, "an extra field"}, extra_size,
                     {&size, &packed, &offset});
    reader.take(comment_size);
    if ((flags & 1) != 0) fail(path_, message(in_quotes(name), " encrypted"), "plain data");
    if (entry.method != 0 && entry.method != 8)
      fail(path_, message(in_quotes(name), " packed by method ", entry.method), "stored or deflated data");

    ByteReader local = reader_at(offset, "an entry");
    expect_signature(local, 0x04034b50, "entry where the directory has one");
    local.take(22);
    const auto local_name = local.number<std::uint16_t>(), local_extra = local.number<std::uint16_t>();
    local.take(std::size_t{local_name} + local_extra);
    entry.packed = local.take(packed);
    entry.size = size;
    const auto end = static_cast<std::size_t>(entry.packed.data() + packed - file_.data());
    if (end > directory) fail(path_, message(in_quotes(name), " within the directory"), "it before that");
    if (entry.method == 0 && size != packed)
      fail(path_, message(packed, " bytes for the ", size, " of ", in_quotes(name)), "as many");
    if (!entries_.emplace(name, entry).second) fail(path_, message(in_quotes(name), " twice"), "it once");
    return {static_cast<std::size_t>(offset), end};
  }

  // Takes the place of those values that did not fit in 32 bits.
  static void read_zip64_field(ByteReader reader, std::size_t size,
                               std::initializer_list<std::uint64_t*> values) {
    while (size >= 4) {
      const auto id = reader.number<std::uint16_t>(), length = reader.number<std::uint16_t>();
      ByteReader field = reader;
      reader.take(length);
      size -= std::min<std::size_t>(size, 4u + length);
      if (id != 1) continue;
      for (std::uint64_t* value : values)
        if (*value == no_u32) *value = field.number<std::uint64_t>();
    }
  }

  std::span<const std::byte> inflate_entry(const std::string& name, const ZipEntry& entry) {
    if (entry.size > budget_)
      fail(path_, message(in_quotes(name), " that inflates to ", entry.size, " bytes"),
           message("at most ", budget_, " more out of a file of ", file_.size()));
    budget_ -= entry.size;
    std::vector<std::byte>& out = inflated_.emplace_back(entry.size);
    z_stream stream{};
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(entry.packed.data()));
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    constexpr std::size_t most = std::numeric_limits<uInt>::max();
    if (::inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
    std::size_t in_left = entry.packed.size(), out_left = out.size();
    int code = Z_OK;
    while (code == Z_OK) {
      stream.avail_in = static_cast<uInt>(std::min(in_left, most));
      stream.avail_out = static_cast<uInt>(std::min(out_left, most));
      const uInt in_before = stream.avail_in, out_before = stream.avail_out;
      code = ::inflate(&stream, Z_NO_FLUSH);
      in_left -= in_before - stream.avail_in;
      out_left -= out_before - stream.avail_out;
    }
    ::inflateEnd(&stream);
    if (code != Z_STREAM_END || in_left != 0 || out_left != 0)
      fail(path_, message("damaged or surplus data in ", in_quotes(name)),
           message(entry.size, " bytes once inflated"));
    return out;
  }

  std::span<const std::byte> file_;
  std::string path_;
  std::size_t budget_;  // bytes that may yet be inflated
  std::map<std::string, ZipEntry, std::less<>> entries_;
  std::deque<std::vector<std::byte>> inflated_;  // of which spans were handed out
};

}  // namespace ddpm::io::detail
