#pragma once

#include <string>
#include <vector>

#include "tornado/database.hpp"
#include "tornado/peer_programmer.hpp"

namespace tornado::inline v1 {

/// Adopted peers as this gateway's own database remembers them, preshared keys included: its file is 0600.
namespace adopted_repo {

Result<void> create_table(Tx& tx);
/// In place of what was known of the same key on the same lane.
Result<void> put(Tx& tx, const AdoptedPeer& adopted);
/// On every lane; false: it was not there.
Result<bool> erase(Tx& tx, const PublicKey& key);
/// Errors: data_loss (a row cannot be read).
Result<std::vector<AdoptedPeer>> list(Tx& tx);

}  // namespace adopted_repo
}  // namespace tornado::inline v1
