#include "peer/adopted_repo.hpp"

#include "base/encoding.hpp"
#include "base/try.hpp"
#include "database/rows.hpp"

namespace tornado::inline v1::adopted_repo {
namespace {

std::string joined(const std::vector<Prefix>& allowed) {
  std::string out;
  for (const auto& prefix : allowed) {
    if (!out.empty()) out += ' ';
    out += prefix.str();
  }
  return out;
}

Result<std::vector<Prefix>> split(std::string_view rest) {
  std::vector<Prefix> out;
  while (!rest.empty()) {
    std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    TRY_PLAIN(auto prefix, Prefix::parse(word));
    out.push_back(prefix);
  }
  return out;
}

Error malformed(std::string_view what, const std::vector<Value>& row) {
  std::string detail = "adopted_peers: malformed ";
  detail.append(what).append(" of ").append(text(row[0]));
  return Error(errc::data_loss, detail);
}

Result<AdoptedPeer> read(const std::vector<Value>& row) {
  auto key = PublicKey::parse(text(row[0]));
  auto allowed = split(text(row[2]));
  if (!key || !allowed) return malformed("row", row);
  AdoptedPeer out(ForeignPeer(Lane(text(row[1])), *key), instant_ms(row[4]), text(row[5]));
  out.peer.allowed = std::move(*allowed);
  if (!row[3]) return out;
  auto raw = from_base64(*row[3]);
  if (!raw) return malformed("preshared key", row);
  out.peer.preshared.emplace(std::move(*raw));
  if (out.peer.preshared->size() != PublicKey::size) return malformed("preshared key", row);
  return out;
}

}  // namespace

Result<void> create_table(Tx& tx) {
  TRY_VOID_PLAIN(tx.exec(
      "CREATE TABLE IF NOT EXISTS adopted_peers (public_key TEXT NOT NULL, lane TEXT NOT NULL, allowed TEXT NOT "
      "NULL, preshared_key TEXT, adopted_ms BIGINT NOT NULL, adopted_by TEXT NOT NULL, PRIMARY KEY (public_key, "
      "lane))"));
  return {};
}

Result<void> put(Tx& tx, const AdoptedPeer& adopted) {
  const ForeignPeer& peer = adopted.peer;
  Value preshared = peer.preshared ? Value(base64(peer.preshared->reveal())) : Value();
  TRY_VOID_PLAIN(tx.exec(
      "INSERT INTO adopted_peers (public_key, lane, allowed, preshared_key, adopted_ms, adopted_by) VALUES ($1, "
      "$2, $3, $4, $5, $6) ON CONFLICT (public_key, lane) DO UPDATE SET allowed = excluded.allowed, "
      "preshared_key = excluded.preshared_key, adopted_ms = excluded.adopted_ms, adopted_by = "
      "excluded.adopted_by",
      {peer.key.str(), peer.lane.str(), joined(peer.allowed), preshared, ms(adopted.since), adopted.by}));
  return {};
}

Result<bool> erase(Tx& tx, const PublicKey& key) {
  TRY_PLAIN(auto rows, tx.exec("DELETE FROM adopted_peers WHERE public_key = $1", {key.str()}));
  return rows.changed > 0;
}

Result<std::vector<AdoptedPeer>> list(Tx& tx) {
  TRY_PLAIN(auto rows, tx.exec("SELECT public_key, lane, allowed, preshared_key, adopted_ms, adopted_by FROM "
                               "adopted_peers ORDER BY lane, public_key"));
  std::vector<AdoptedPeer> out;
  for (const auto& row : rows.rows) {
    TRY_PLAIN(auto adopted, read(row));
    out.push_back(std::move(adopted));
  }
  return out;
}

}  // namespace tornado::inline v1::adopted_repo
