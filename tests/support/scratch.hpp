#pragma once

#include <filesystem>
#include <string>

#include "base/uuid.hpp"

namespace tornado::test {

/// A private directory that goes with its owner.
class Scratch {
 public:
  Scratch() : path_(std::filesystem::temp_directory_path() / ("tornado-" + uuid4())) {
    std::filesystem::create_directories(path_);
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string str() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace tornado::test
