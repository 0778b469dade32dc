#include "tor/circuit_book.hpp"

#include <algorithm>

namespace tornado::inline v1 {

void CircuitBook::circuit(const CircuitLine& line) {
  if (line.status == "CLOSED" || line.status == "FAILED") {
    circuits_.erase(line.id);
    return;
  }
  Entry& entry = circuits_[line.id];
  CircuitLine former = std::move(entry.line);
  entry.line = line;
  // What changes about a circuit is no state of it.
  bool minor = line.status == "PURPOSE_CHANGED" || line.status == "CANNIBALIZED";
  if (minor && !former.status.empty()) entry.line.status = std::move(former.status);
  // An event need not repeat what was said before.
  if (entry.line.path.empty()) entry.line.path = std::move(former.path);
  if (entry.line.purpose.empty()) entry.line.purpose = std::move(former.purpose);
  if (entry.line.time_created.empty()) entry.line.time_created = std::move(former.time_created);
  if (entry.line.conflux.empty()) entry.line.conflux = std::move(former.conflux);
}

void CircuitBook::stream(const StreamLine& line) {
  if (!line.source.empty() && streams_.size() < most_streams) {
    if (auto source = Address::parse(line.source)) streams_[line.id] = *source;
  }
  auto known = streams_.find(line.id);
  if (known != streams_.end() && !line.circuit.empty()) {
    auto circuit = circuits_.find(line.circuit);
    if (circuit != circuits_.end()) circuit->second.sources.insert(known->second);
  }
  if (line.status == "CLOSED" || line.status == "FAILED") streams_.erase(line.id);
}

void CircuitBook::clear() {
  circuits_.clear();
  streams_.clear();
}

std::vector<Circuit> CircuitBook::list() const {
  std::vector<Circuit> out;
  for (const auto& [id, entry] : circuits_) {
    Circuit& circuit = out.emplace_back();
    circuit.id = id;
    circuit.state = entry.line.status;
    circuit.purpose = entry.line.purpose;
    circuit.created = entry.line.time_created;
    circuit.sources.assign(entry.sources.begin(), entry.sources.end());
    for (const auto& [fingerprint, nickname] : entry.line.path) {
      Circuit::Hop& hop = circuit.path.emplace_back();
      hop.fingerprint = fingerprint;
      hop.nickname = nickname;
    }
  }
  auto by_number = [](const Circuit& a, const Circuit& b) {
    return a.id.size() != b.id.size() ? a.id.size() < b.id.size() : a.id < b.id;
  };
  std::sort(out.begin(), out.end(), by_number);
  return out;
}

std::vector<std::string> CircuitBook::circuits_of(const Address& source) const {
  std::vector<std::string> out;
  std::set<std::string> linked;
  for (const auto& [id, entry] : circuits_) {
    if (!entry.sources.contains(source)) continue;
    out.push_back(id);
    if (!entry.line.conflux.empty()) linked.insert(entry.line.conflux);
  }
  for (const auto& [id, entry] : circuits_)
    if (linked.contains(entry.line.conflux) && !entry.sources.contains(source)) out.push_back(id);
  return out;
}

std::vector<std::string> CircuitBook::streams_of(const Address& source) const {
  std::vector<std::string> out;
  for (const auto& [id, from] : streams_)
    if (from == source) out.push_back(id);
  return out;
}

}  // namespace tornado::inline v1
