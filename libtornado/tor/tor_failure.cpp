#include "tor/tor_failure.hpp"

#include <array>
#include <string_view>

namespace tornado::inline v1 {
namespace {

struct Sign {
  std::string_view text;
  errc code;
};

// Words of tor's log and of its control answers. The first that is found decides, so causes stand before consequences.
constexpr std::array signs{
    Sign{"No space left on device", errc::disk_full},
    Sign{"Address already in use", errc::tor_port_taken},
    Sign{"Failed to bind one of the listener ports", errc::tor_port_taken},
    Sign{"Cannot assign requested address", errc::interface_missing},
    Sign{"is not owned by this user", errc::tor_directory},
    Sign{"Couldn't create private data directory", errc::tor_directory},
    Sign{"Couldn't access private data directory", errc::tor_directory},
    Sign{"Could not open data directory", errc::tor_directory},
    Sign{"Error creating directory", errc::tor_directory},
    Sign{"are too permissive", errc::tor_directory},
    Sign{"Directory permissions", errc::tor_directory},
    Sign{"Couldn't open lock file", errc::tor_directory},
    Sign{"another Tor process is running with the same data directory", errc::tor_directory},
    Sign{"Failed to parse/validate config", errc::tor_config_refused},
    Sign{"Reading config failed", errc::tor_config_refused},
    Sign{"Unable to set option", errc::tor_config_refused},
    Sign{"No such file or directory", errc::tor_missing},
    Sign{"Exec format error", errc::tor_missing},
    Sign{"Permission denied", errc::tor_missing},
};

}  // namespace

Error tor_failure(const Error& error) {
  switch (error.code()) {
    case errc::backend_failed:
    case errc::deadline_exceeded:
      break;
    default:
      return error;
  }
  const bool silent = error.code() == errc::deadline_exceeded;
  for (const Sign& sign : signs) {
    // What runs until its time is over is there; what is missing is its control socket.
    if (silent && sign.code == errc::tor_missing) continue;
    if (error.detail().find(sign.text) != std::string::npos) return Error(sign.code, error.detail());
  }
  return Error(silent ? errc::tor_unavailable : errc::tor_died, error.detail());
}

std::string tor_remedy(errc code, bool service) {
  switch (code) {
    case errc::tor_unavailable:
      if (service) return "systemctl start tornado-tor.service; journalctl -u tornado-tor says why it does not run";
      return "it is started again; see the log of tor in state_dir/children, and whether this machine is too busy: "
             "tor.patience is how long tor may take to begin";
    case errc::tor_missing:
      return "install tor (apt install tor), or set tor.program to where it is; tor.launch none does without";
    case errc::tor_too_old:
      return "install tor 0.4.7 or later";
    case errc::tor_config_refused:
      return "correct the tor section of the configuration; tor's own words stand in the reason";
    case errc::tor_port_taken:
      return "end the program that holds the port, or set tor.trans_port and tor.dns_port to free ones";
    case errc::tor_directory:
      return "the directory tor/data in state_dir must belong to the account tor runs as, mode 0700; it may be removed";
    case errc::disk_full:
      return "make room on the disk of state_dir";
    case errc::tor_breaker:
      return "it is tried again after a rest; see the reason and the log of tor in state_dir/children";
    case errc::tor_stuck:
      return "check that the uplink reaches the internet; where Tor is blocked set tor.bridges, behind a proxy "
             "tor.proxy";
    case errc::tor_data_limit:
      return "raise tor.data_limit, or wait until the reason's moment";
    case errc::tor_clock_skewed:
      return "set the clock of this host (timedatectl set-ntp true)";
    case errc::tor_authentication:
      if (service) return "systemctl restart tornado-tor.service; the daemon must be in its group to read the cookie";
      return "another tor answers on the control socket or the cookie was replaced: tornadoctl tor stop, then start";
    case errc::interface_missing:
      return "the lane's interface has no address yet; it is tried again";
    case errc::protocol_error:
      if (service) return "what answers on the control socket is not tor: see tor.socket_dir";
      return "what answers on the control socket is not tor: tornadoctl tor stop, then start";
    default:
      return "";
  }
}

}  // namespace tornado::inline v1
