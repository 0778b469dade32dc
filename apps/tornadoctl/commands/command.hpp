#pragma once

#include <string>
#include <vector>

#include "api/operations.hpp"
#include "tornado/control.hpp"

namespace tornadoctl {

/// What stands before the noun.
struct Globals {
  std::string socket;
  bool json = false;
};

/// Exit status with the error printed: cause and next step on standard error, nothing on standard output.
int fail(const tornado::Error& error);
int usage(const std::string& why);

/// `tornadoctl NOUN VERB ...` for any operation of the table.
int run_operation(const Globals& globals, const tornado::Operation& operation, const std::vector<std::string>& words);
/// `tornadoctl events tail`.
int tail_events(const Globals& globals, const std::vector<std::string>& words);
/// `tornadoctl tor watch [--until-up]`: a progress bar on a terminal, lines elsewhere.
int watch_tor(const Globals& globals, const std::vector<std::string>& words);
/// `tornadoctl lane verify [tor|vpn]`: 0 every probe held, 1 one did not. Root, where the daemon runs.
int verify_lane(const Globals& globals, const std::vector<std::string>& words);
/// `tornadoctl why USER|DEVICE`: 0 nothing is wrong, 1 something is.
int explain_why(const Globals& globals, const std::vector<std::string>& words);
/// `tornadoctl config check [FILE]`, without a daemon.
int check_config(const Globals& globals, const std::vector<std::string>& words);

/// The verb of an operation that people call by its noun alone: `report`, `why`. Empty: there is none.
std::string verb_of_single(const std::string& noun);

void print_help();
/// Help of one noun, or of one command.
bool print_help_for(const std::string& noun, const std::string& verb);

/// A password: the first line of standard input, or a prompt without echo, asked twice where it is new.
tornado::Result<std::string> read_secret(const std::string& name, bool from_stdin);

}  // namespace tornadoctl
