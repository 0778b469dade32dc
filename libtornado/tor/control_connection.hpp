#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/task_group.hpp"
#include "tor/control_codec.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A conversation with the control socket of a tor: questions are answered in order, events come in between.
///
/// Loop thread. Every answer has five seconds; one that does not come ends the connection, because later answers could
/// no longer be told apart. An ended connection stays ended: make a new one.
class ControlConnection {
 public:
  /// Connects to a Unix socket and proves itself by SAFECOOKIE, or by COOKIE where tor offers nothing better. Errors:
  /// tor_unavailable (nobody listens), tor_authentication, tor_too_old, protocol_error, deadline_exceeded.
  /// What reads the socket runs in `readers` and ends with the connection.
  static Task<std::unique_ptr<ControlConnection>> open(Runtime& runtime, TaskGroup& readers, std::string socket,
                                                       std::string cookie_file);
  ~ControlConnection();

  /// Sends a command and waits for its answer, whatever its status. Errors: invalid_argument (a line break in the
  /// command), overloaded (256 wait already), tor_unavailable (the connection has ended), deadline_exceeded,
  /// protocol_error, cancelled.
  Task<ControlReply> ask(std::string command);
  /// The same; a status that is not 2xx is backend_failed with tor's text.
  Task<ControlReply> order(std::string command);
  /// Sends all commands and waits for their answers afterwards: they cost one turn of tor, not one each.
  Task<std::vector<ControlReply>> ask_all(std::vector<std::string> commands);
  /// Gives tor a whole configuration as if it stood in its torrc; lines as in the file. As `order`.
  Task<ControlReply> load(std::string configuration);
  /// The next event. More than 8192 that nobody has taken end the connection. Errors: those of the end; cancelled.
  Task<ControlReply> event();
  bool ended() const noexcept;
  /// As PROTOCOLINFO told it: "0.4.9.11".
  const std::string& version() const noexcept;

 private:
  struct Impl;
  struct Question;
  Result<std::shared_ptr<Question>> send(std::string text);
  Task<ControlReply> answer(std::shared_ptr<Question> question);
  explicit ControlConnection(std::shared_ptr<Impl> impl);
  Task<void> authenticate(std::string cookie_file);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
