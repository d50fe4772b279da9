// SPDX-License-Identifier: MIT
// A pickle of protocol 2 as a tree of values. Nothing is called and nothing is imported: globals are names
// out of a given list, and a call is a node that holds the name and its arguments.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/byte_reader.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

struct PickleNode {
  enum class Kind { none, boolean, integer, number, text, global, tuple, list, dict, persistent, call };
  using Index = std::uint32_t;  // among all nodes

  Kind kind = Kind::none;
  std::int64_t integer = 0;
  std::string_view text = {};  // a text, borrowed from the pickle; the name of a global
  std::vector<Index> items =
      {};  // of a tuple or a list; the id of a persistent; the callee and the arguments
  std::vector<Index> entries = {};  // key, value, key, value, ... of a dict or of what a call made
};

// A node may be reached by several ways, and through itself: walk it to a known depth only.
struct Pickle {
  std::vector<PickleNode> nodes;
  PickleNode::Index root = 0;

  const PickleNode& operator[](PickleNode::Index i) const { return nodes[i]; }
};

class Unpickler {
 public:
  // `globals` are the full names, "module.name", that may occur. Texts in the result borrow from `bytes`.
  Unpickler(std::span<const std::byte> bytes, const std::string& path,
            std::span<const std::string_view> globals)
      : reader_(bytes, path, "its pickle"), path_(path), globals_(globals) {}

  Pickle load() && {
    while (step()) continue;
    pickle_.root = pop();
    return std::move(pickle_);
  }

 private:
  using Kind = PickleNode::Kind;
  using Index = PickleNode::Index;

  // One opcode; false after the last.
  bool step() {
    const auto code = reader_.number<std::uint8_t>();
    if (code == '.') return false;
    if (!constant(code) && !container(code) && !memo(code) && !object(code))
      fail(path_, message("the pickle opcode ", int{code}), "those of a torch.save of tensors");
    return true;
  }

  bool constant(std::uint8_t code) {
    switch (code) {
      case 'N':
        push({});
        return true;
      case 0x88:
      case 0x89:
        push({.kind = Kind::boolean, .integer = code == 0x88});
        return true;
      case 'K':
        push({.kind = Kind::integer, .integer = reader_.number<std::uint8_t>()});
        return true;
      case 'M':
        push({.kind = Kind::integer, .integer = reader_.number<std::uint16_t>()});
        return true;
      case 'J':
        push({.kind = Kind::integer, .integer = reader_.number<std::int32_t>()});
        return true;
      case 0x8a:
        push({.kind = Kind::integer, .integer = long_integer()});
        return true;
      case 'G':
        reader_.take(8);
        push({.kind = Kind::number});
        return true;
      case 'X':
        push({.kind = Kind::text, .text = reader_.text(reader_.number<std::uint32_t>())});
        return true;
      default:
        return false;
    }
  }

  bool container(std::uint8_t code) {
    switch (code) {
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case ')':
        push({.kind = Kind::tuple});
        return true;
      case 't':
        push({.kind = Kind::tuple, .items = pop_to_mark()});
        return true;
      case 0x85:
      case 0x86:
      case 0x87:
        push({.kind = Kind::tuple, .items = pop_last(code - 0x84u)});
        return true;
      case ']':
        push({.kind = Kind::list});
        return true;
      case '}':
        push({.kind = Kind::dict});
        return true;
      case 'a':
        append(pop_last(1));
        return true;
      case 'e':
        append(pop_to_mark());
        return true;
      case 's':
        set_items(pop_last(2));
        return true;
      case 'u':
        set_items(pop_to_mark());
        return true;
      default:
        return false;
    }
  }

  bool memo(std::uint8_t code) {
    switch (code) {
      case 'q':
        memo_[reader_.number<std::uint8_t>()] = top();
        return true;
      case 'r':
        memo_[reader_.number<std::uint32_t>()] = top();
        return true;
      case 'h':
        stack_.push_back(recall(reader_.number<std::uint8_t>()));
        return true;
      case 'j':
        stack_.push_back(recall(reader_.number<std::uint32_t>()));
        return true;
      default:
        return false;
    }
  }

  bool object(std::uint8_t code) {
    switch (code) {
      case 0x80:
        if (const int protocol = reader_.number<std::uint8_t>(); protocol != 2)
          fail(path_, message("a pickle of protocol ", protocol), "protocol 2, the default of torch.save");
        return true;
      case 'c':
        push({.kind = Kind::global, .text = global()});
        return true;
      case 'Q':
        push({.kind = Kind::persistent, .items = pop_last(1)});
        return true;
      case 'R':
        push({.kind = Kind::call, .items = pop_last(2)});
        return true;
      case 'b':  // attributes of an object, such as the _metadata of a state dict
        pop();
        top();
        return true;
      default:
        return false;
    }
  }

  std::int64_t long_integer() {
    const auto size = reader_.number<std::uint8_t>();
    if (size > 8) fail(path_, message("an integer of ", int{size}, " bytes"), "at most 8");
    const std::span<const std::byte> bytes = reader_.take(size);
    std::uint64_t value = size > 0 && (bytes.back() & std::byte{0x80}) != std::byte{} ? ~std::uint64_t{0} : 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    return static_cast<std::int64_t>(value);
  }

  std::string_view global() {
    const std::string_view module = reader_.line();
    const std::string name = std::string(module) + '.' + std::string(reader_.line());
    const auto known = std::ranges::find(globals_, name);
    if (known == globals_.end())
      fail(path_, message("the Python object ", in_quotes(name)),
           "tensors, their storages and OrderedDict alone");
    return *known;
  }

  void append(const std::vector<Index>& items) {
    PickleNode& list = pickle_.nodes[top()];
    if (list.kind != Kind::list) fail(path_, "a pickle that appends to no list", "a list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void set_items(const std::vector<Index>& entries) {
    PickleNode& dict = pickle_.nodes[top()];
    if ((dict.kind != Kind::dict && dict.kind != Kind::call) || entries.size() % 2 != 0)
      fail(path_, "a pickle that sets items of no dict", "keys and values of a dict");
    dict.entries.insert(dict.entries.end(), entries.begin(), entries.end());
  }

  void push(PickleNode node) {
    stack_.push_back(static_cast<Index>(pickle_.nodes.size()));
    pickle_.nodes.push_back(std::move(node));
  }
  // What lies above the last mark alone may be taken.
  std::size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  Index top() const {
    if (available() == 0) fail(path_, "a pickle that takes from an empty stack", "a whole one");
    return stack_.back();
  }
  Index pop() {
    const Index last = top();
    stack_.pop_back();
    return last;
  }
  std::vector<Index> pop_last(std::size_t count) {
    if (available() < count) fail(path_, "a pickle that takes from an empty stack", "a whole one");
    std::vector<Index> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) fail(path_, "a pickle that lacks a mark", "a whole one");
    std::vector<Index> items = pop_last(available());
    marks_.pop_back();
    return items;
  }
  Index recall(std::uint32_t key) const {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail(path_, message("a pickle without object ", key), "it before it is used");
    return found->second;
  }

  ByteReader reader_;
  const std::string& path_;
  std::span<const std::string_view> globals_;
  Pickle pickle_;
  std::vector<Index> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, Index> memo_;
};

}  // namespace ddpm::io::detail
