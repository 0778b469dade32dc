#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tornado/error.hpp"
#include "tornado/secret.hpp"

namespace tornado::inline v1 {

/// Whole file. not_found; store_unavailable (unreadable); too_large (more than `limit` bytes).
Result<std::string> read_file(const std::string& path, std::size_t limit = 1 << 20);

/// Replaces a file so that a crash leaves the old content or the new one: temporary file with its final mode in the
/// same directory, fsync, rename, fsync of the directory. Errors: disk_full, store_unavailable.
/// With a group the file has it from the beginning.
Result<void> replace_file(const std::string& path, std::string_view content, unsigned mode = 0600,
                          std::optional<unsigned> group = std::nullopt);

/// Makes a directory and its parents; the last one gets `mode`. An existing one is left alone.
Result<void> make_directory(const std::string& path, unsigned mode = 0700);

}  // namespace tornado::inline v1
