#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/uuid.hpp"

namespace tornado::test {

/// For files that need to survive the end of a process only: memory, where there is enough. What is committed there a
/// thousand times does not wait for a disk.
inline std::filesystem::path in_memory() {
  const std::filesystem::path memory = "/dev/shm";
  std::error_code error;
  auto space = std::filesystem::space(memory, error);
  bool usable = !error && space.available >= (256u << 20) && ::access(memory.c_str(), W_OK) == 0;
  return usable ? memory : std::filesystem::temp_directory_path();
}

/// A private directory that goes with its owner.
class Scratch {
 public:
  explicit Scratch(const std::filesystem::path& where = std::filesystem::temp_directory_path())
      : path_(where / ("tornado-" + uuid4())) {
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
