#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tor/control_codec.hpp"
#include "tornado/tor_controller.hpp"

namespace tornado::inline v1 {

/// Which circuits there are and which devices have had streams on them, from CIRC and STREAM events. Pure.
class CircuitBook {
 public:
  static constexpr std::size_t most_streams = 65536;

  void circuit(const CircuitLine& line);
  void stream(const StreamLine& line);
  /// A line of stream-status: a stream that began before anybody listened, of nobody knows whom.
  void stranger(const StreamLine& line);
  void clear();

  std::vector<Circuit> list() const;
  /// Circuits that carried streams of this address, and what is linked to them (a conflux set is one path of two legs).
  std::vector<std::string> circuits_of(const Address& source) const;
  /// Open streams of this address.
  std::vector<std::string> streams_of(const Address& source) const;
  /// Whether it is known of every circuit which devices have had streams on it.
  bool attributed() const noexcept { return strange_.empty(); }

 private:
  struct Entry {
    CircuitLine line;
    std::set<Address> sources;
  };
  /// What belongs to one device, so that nobody looks through what belongs to the others.
  struct Device {
    std::set<std::string> circuits, streams;
    bool empty() const { return circuits.empty() && streams.empty(); }
  };
  void forget(const std::string& id);
  void leave(const std::string& conflux, const std::string& id);

  std::map<std::string, Entry> circuits_;
  std::map<std::string, std::set<std::string>> conflux_;  // the legs of a set
  std::map<std::string, Address> streams_;
  std::set<std::string> internal_;  // streams of tor itself
  std::set<std::string> strange_;   // circuits with streams of unknown devices
  std::map<Address, Device> devices_;
};

}  // namespace tornado::inline v1
