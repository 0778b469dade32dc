#include "tor/circuit_book.hpp"

#include <algorithm>

namespace tornado::inline v1 {

void CircuitBook::circuit(const CircuitLine& line) {
  if (line.status == "CLOSED" || line.status == "FAILED") return forget(line.id);
  bool minor = line.status == "PURPOSE_CHANGED" || line.status == "CANNIBALIZED";
  if (minor && !circuits_.contains(line.id)) return;
  Entry& entry = circuits_[line.id];
  CircuitLine former = std::move(entry.line);
  entry.line = line;
  if (minor) entry.line.status = former.status;
  // An event need not repeat what was said before.
  if (entry.line.path.empty()) entry.line.path = std::move(former.path);
  if (entry.line.purpose.empty()) entry.line.purpose = std::move(former.purpose);
  if (entry.line.time_created.empty()) entry.line.time_created = std::move(former.time_created);
  if (entry.line.conflux.empty()) entry.line.conflux = former.conflux;
  if (entry.line.conflux == former.conflux) return;
  leave(former.conflux, line.id);
  conflux_[entry.line.conflux].insert(line.id);
}

void CircuitBook::leave(const std::string& conflux, const std::string& id) {
  auto legs = conflux_.find(conflux);
  if (legs == conflux_.end()) return;
  legs->second.erase(id);
  if (legs->second.empty()) conflux_.erase(legs);
}

void CircuitBook::forget(const std::string& id) {
  auto known = circuits_.find(id);
  if (known == circuits_.end()) return;
  leave(known->second.line.conflux, id);
  for (const Address& source : known->second.sources) {
    auto device = devices_.find(source);
    device->second.circuits.erase(id);
    if (device->second.empty()) devices_.erase(device);
  }
  circuits_.erase(known);
  strange_.erase(id);
}

void CircuitBook::stranger(const StreamLine& line) {
  if (circuits_.contains(line.circuit)) strange_.insert(line.circuit);
}

void CircuitBook::stream(const StreamLine& line) {
  const bool over = line.status == "CLOSED" || line.status == "FAILED";
  auto known = streams_.find(line.id);
  if (known == streams_.end() && !line.source.empty() && streams_.size() + internal_.size() < most_streams) {
    if (auto source = Address::parse(line.source)) {
      known = streams_.emplace(line.id, *source).first;
      devices_[*source].streams.insert(line.id);
    } else {
      internal_.insert(line.id);
    }
  }
  if (known == streams_.end()) {
    if (!internal_.contains(line.id)) stranger(line);
    if (over) internal_.erase(line.id);
    return;
  }
  auto circuit = circuits_.find(line.circuit);
  if (circuit != circuits_.end() && circuit->second.sources.insert(known->second).second)
    devices_[known->second].circuits.insert(line.circuit);
  if (!over) return;
  auto device = devices_.find(known->second);
  device->second.streams.erase(line.id);
  if (device->second.empty()) devices_.erase(device);
  streams_.erase(known);
}

void CircuitBook::clear() {
  circuits_.clear();
  conflux_.clear();
  streams_.clear();
  internal_.clear();
  strange_.clear();
  devices_.clear();
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
  auto device = devices_.find(source);
  if (device == devices_.end()) return {};
  std::set<std::string> out = device->second.circuits;
  for (const std::string& id : device->second.circuits) {
    auto legs = conflux_.find(circuits_.at(id).line.conflux);
    if (legs != conflux_.end()) out.insert(legs->second.begin(), legs->second.end());
  }
  return std::vector<std::string>(out.begin(), out.end());
}

std::vector<std::string> CircuitBook::streams_of(const Address& source) const {
  auto device = devices_.find(source);
  if (device == devices_.end()) return {};
  return std::vector<std::string>(device->second.streams.begin(), device->second.streams.end());
}

}  // namespace tornado::inline v1
