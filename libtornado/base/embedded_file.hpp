#pragma once

#include <span>
#include <string_view>

namespace tornado::inline v1 {

/// A file of the source tree, compiled in by cmake/EmbedFiles.cmake.
struct EmbeddedFile {
  std::string_view name;
  std::string_view text;
};

std::span<const EmbeddedFile> embedded_migrations();

}  // namespace tornado::inline v1
