#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A column or a parameter: text, or NULL.
using Value = std::optional<std::string>;

/// The answer of a statement.
class Rows {
 public:
  Rows() {}
  bool empty() const noexcept { return rows.empty(); }
  std::size_t size() const noexcept { return rows.size(); }
  const std::vector<Value>& operator[](std::size_t i) const noexcept { return rows[i]; }

  std::vector<std::vector<Value>> rows;
  std::uint64_t changed = 0;  ///< rows a modifying statement touched
};

/// A running transaction. Valid only inside the body it was given to; runs on a thread of the blocking pool.
class TORNADO_API Tx {
 public:
  virtual ~Tx() = default;
  /// One statement of portable SQL: parameters $1 ..., ON CONFLICT, RETURNING. Errors: already_exists (a constraint
  /// refused), disk_full, store_unavailable, data_loss, internal (malformed SQL).
  virtual Result<Rows> exec(std::string_view sql, const std::vector<Value>& params = {}) = 0;
};

/// On whose behalf, and how urgently.
class Scope {
 public:
  static Scope system() { return Scope(std::string(), false); }
  static Scope tenant(std::string id) { return Scope(std::move(id), false); }
  /// May use the reserved queue places and the preallocated disk reserve (I-11): refresh, close, heartbeat.
  Scope urgent() const { return Scope(tenant_, true); }
  const std::string& tenant_id() const noexcept { return tenant_; }
  bool is_urgent() const noexcept { return urgent_; }

 private:
  Scope(std::string tenant, bool urgent) : tenant_(std::move(tenant)), urgent_(urgent) {}
  std::string tenant_;
  bool urgent_;
};

/// Seam: durable state. Transactions are serializable in effect (I-40).
///
/// Loop thread; `body` runs on the blocking pool, must not touch loop state without care, may be run again, and must
/// outlive the call. Its error rolls back its own changes and is returned. When `transact` succeeds the change is on
/// disk. Errors besides those of the body: overloaded (queue full), disk_full, store_unavailable, data_loss.
/// A transaction that has begun is not cancelled.
class TORNADO_API Database {
 public:
  using Body = std::function<Result<void>(Tx&)>;

  virtual ~Database() = default;
  virtual Task<void> transact(Scope scope, Body& body) = 0;
  /// Brings the schema to this version. failed_precondition: it is newer than this program.
  virtual Task<void> migrate() = 0;
  /// Something else than this object may have written since the last call; caches of rows must be dropped.
  virtual Task<bool> changed_elsewhere() = 0;
  /// Transactions that wait for their turn. Default: 0.
  virtual std::size_t waiting() const noexcept { return 0; }
  /// Writes back and closes; every later call answers store_unavailable.
  virtual Task<void> close() = 0;
};

/// SQLite in WAL mode with full synchronisation. Concurrent callers share one commit, each in a savepoint of its own.
/// `path` may be ":memory:". The file is created with mode 0600. `reserve` bytes are kept in `<path>.reserve` and given
/// up to urgent transactions when the disk is full.
TORNADO_API std::unique_ptr<Database> open_sqlite(Runtime& runtime, std::string path, std::uint64_t reserve = 0);

}  // namespace tornado::inline v1
