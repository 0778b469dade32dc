#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// What the operator wants of Tor. Kept on disk; nothing but an operator changes it (D-087).
enum class TorWish : std::uint8_t {
  up,           ///< connected
  maintenance,  ///< running, off the network: its ports are closed
  stopped,      ///< no process; one of a service manager stays, off the network
};

/// What is observed of Tor.
enum class TorPhase : std::uint8_t {
  stopped,
  launching,      ///< the process starts, or its control socket does not answer yet
  bootstrapping,  ///< connects: less than 100 %, or no circuit, or the probe was not answered
  up,             ///< 100 %, a circuit is established and the probe was answered (D-096)
  maintenance,
  failed,  ///< see reason and remedy; tried again with backoff, for ever
};

TORNADO_API std::string_view name(TorWish wish) noexcept;
TORNADO_API std::string_view name(TorPhase phase) noexcept;
/// invalid_argument.
TORNADO_API Result<TorWish> parse_tor_wish(std::string_view text);

/// How to run a tor of our own.
class TorOptions {
 public:
  TorOptions() {}
  std::string program = "/usr/bin/tor";  ///< 0.4.7 or later
  /// Put before the program: a launcher that gives up privileges. Empty: none.
  std::vector<std::string> launcher;
  std::string directory;  ///< data, torrc, cookie, control socket, wish; 0700
  std::string children;   ///< record and log of the process; 0700
  /// Where a tor of a service manager has its control socket, cookie and torrc: it is waited for and told what to do,
  /// never started or ended (I-30). Empty: one of our own is started; the four members above are for that.
  std::string service;
  std::string account;               ///< owns the data directory if we are root; empty: ours
  std::vector<Endpoint> trans, dns;  ///< TransPort and DNSPort; addresses must exist when tor starts
  std::optional<Endpoint> socks;     ///< none unless asked for
  /// Bridge lines as the Tor Project gives them out, with or without "Bridge "; with any, tor uses no other entry.
  std::vector<std::string> bridges;
  std::string obfs4 = "/usr/bin/obfs4proxy";    ///< runs the transports obfs4 and meek_lite of bridges
  std::vector<std::string> exit_countries;      ///< two letters; streams leave there only
  std::vector<std::string> excluded_countries;  ///< never part of a circuit
  std::string proxy;                            ///< "socks5://host:port" or "https://host:port"; empty: direct
  std::string data_limit;                       ///< of a month, "500 GBytes"; empty: none
  /// Further options of torrc(5), "Name value". Those that belong to the gateway, open ports or run programs are
  /// refused.
  std::vector<std::string> extra;
  /// Names that resolve to an address without the network: the client API by name (I-22).
  std::vector<std::pair<std::string, Address>> names;
  /// Resolved through the network before Tor counts as up: any answer from an exit is enough. Empty: a circuit is.
  std::string probe_name = "www.torproject.org";
  /// Without progress for so long, tor counts as stuck; it is left to try on. One whose control socket does not answer
  /// for so long after it was started is ended and started again.
  Seconds patience{120};
  Seconds probe_every{60};  ///< while up
};

/// The torrc for these options. Errors: invalid_config naming the option and what is wrong with it.
TORNADO_API Result<std::string> torrc(const TorOptions& options);
/// MaxCircuitDirtiness of these options, 600 unless they say otherwise: an address of a former tenant must rest longer.
/// Errors: invalid_config (a time that is not understood).
TORNADO_API Result<Seconds> circuit_dirtiness(const TorOptions& options);

/// What is known of Tor, at one moment.
class TorStatus {
 public:
  TorStatus() {}
  std::uint64_t revision = 0;
  TorWish wish = TorWish::up;
  TorPhase phase = TorPhase::stopped;
  int bootstrap = 0;         ///< percent
  std::string tag, summary;  ///< of the bootstrap
  bool circuit_established = false;
  bool probe_answered = false;
  bool network_live = false;
  std::optional<errc> error;  ///< why it is not as wished
  std::string reason;         ///< for the operator
  std::string remedy;         ///< what to do about it
  std::string warning;        ///< it works, but: clock skew, an unsafe version
  std::string version;
  int pid = 0;
  bool adopted = false;
  int restarts = 0;
  Instant since;  ///< of the phase
};

/// A circuit. Where its streams go is never known here.
class Circuit {
 public:
  class Hop {
   public:
    Hop() {}
    std::string fingerprint, nickname;
  };
  Circuit() {}
  std::string id, state, purpose;
  std::vector<Hop> path;         ///< every hop that is there, however many (D-104)
  std::string created;           ///< as tor writes it, UTC
  std::vector<Address> sources;  ///< devices that have had a stream on it
};

/// What became of the circuits of a device.
class ClosedCircuits {
 public:
  ClosedCircuits() {}
  int count = 0;
  /// Nothing of the device is left. False: a circuit is there of which nobody knows whose streams it carries, because
  /// they began before tor was listened to.
  bool complete = true;
};

/// Load of the lane: what tor itself has counted since it started.
class TorTraffic {
 public:
  TorTraffic() {}
  std::uint64_t read = 0, written = 0;  ///< bytes
  std::vector<std::string> guards;      ///< "nickname up"
};

/// Runs a tor of its own, or has one of a service manager, and drives it towards the operator's wish, for ever.
///
/// The process outlives this object and is adopted by the next one (I-30); no other tor of the host is touched (D-090).
/// Control is a Unix socket with a cookie inside `directory`. Its death is seen at once, launches are repeated with
/// backoff, and whatever fails has a reason and a remedy in `status`. Loop thread; nothing here blocks the loop.
class TORNADO_API TorController {
 public:
  /// Throws std::invalid_argument naming an option that is not allowed.
  TorController(Runtime& runtime, TorOptions options);
  ~TorController();

  /// Before `run`: asks a tor that runs from before whether it is up, so that what goes through it need not be cut.
  Task<TorStatus> look();
  /// Reads the wish (`first` if there was none), launches or adopts, and converges until it is cancelled. The process
  /// stays.
  Task<void> run(TorWish first = TorWish::up);
  /// Stores the wish and returns at once with the status; `changed` tells when it has come true. Errors: disk_full,
  /// store_unavailable: nothing was changed.
  Task<TorStatus> wish(TorWish wish);
  TorStatus status() const;
  /// Waits for a revision after `since` (0: returns at once), or until `within` has passed; the status as it is then.
  /// Errors: cancelled.
  Task<TorStatus> changed(std::uint64_t since, std::optional<Seconds> within = std::nullopt);

  /// Errors here and below: tor_unavailable.
  Task<std::vector<Circuit>> circuits();
  Task<TorTraffic> traffic();
  /// Closes the circuits that have carried streams of that address, with their streams. Nobody else's.
  Task<ClosedCircuits> close_circuits(Address source);
  /// The same, how many; and what the device opens next travels on circuits it has never used. Streams that began
  /// before tor was listened to go on. Errors: tor_unavailable, also if tor takes too long to bar circuits of unknown
  /// devices.
  Task<int> new_identity(Address source);
  /// Ends the process. It is started again only by `run` or a wish; one of a service manager comes back at once,
  /// without the network.
  Task<void> end();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
