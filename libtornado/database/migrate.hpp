#pragma once

#include <functional>
#include <string>

#include "tornado/database.hpp"

namespace tornado::inline v1 {

/// Applies the embedded migrations that the schema has not seen, in order, within the given transaction. `script` runs
/// a text of several statements. Errors: failed_precondition (the schema is newer than this program), and the engine's.
Result<void> apply_migrations(Tx& tx, Instant now, const std::function<Result<void>(const std::string&)>& script);

}  // namespace tornado::inline v1
