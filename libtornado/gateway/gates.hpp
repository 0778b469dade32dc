#pragma once

#include <boost/asio/steady_timer.hpp>
#include <list>
#include <unordered_map>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A keyed first-in-first-out lock per device (I-03): every step that changes a device runs inside its gate. Loop
/// thread.
class Gates {
 public:
  explicit Gates(Runtime& runtime) : runtime_(runtime) {}

  /// Leaves the gate when it goes.
  class Pass {
   public:
    Pass() = default;
    Pass(Gates& gates, DeviceId device) : gates_(&gates), device_(std::move(device)) {}
    Pass(Pass&& other) noexcept : gates_(std::exchange(other.gates_, nullptr)), device_(std::move(other.device_)) {}
    Pass& operator=(Pass&& other) noexcept {
      std::swap(gates_, other.gates_);
      std::swap(device_, other.device_);
      return *this;
    }
    ~Pass() {
      if (gates_ != nullptr) gates_->leave(device_);
    }

   private:
    Gates* gates_ = nullptr;
    DeviceId device_;
  };

  Task<Pass> enter(DeviceId device) { return queue(std::move(device), false); }
  /// For initiate: an older one that still waits answers `superseded`.
  Task<Pass> enter_latest(DeviceId device) { return queue(std::move(device), true); }
  bool busy(const DeviceId& device) const { return lines_.contains(device); }
  /// Steps that wait for another one of the same device.
  std::size_t waiting() const noexcept { return waiting_; }

 private:
  struct Waiter {
    Waiter(boost::asio::io_context& io, bool replaceable_);
    boost::asio::steady_timer wake;
    bool replaceable;
    enum class State : std::uint8_t { waiting, admitted, superseded } state = State::waiting;
  };

  Task<Pass> queue(DeviceId device, bool latest);
  void leave(const DeviceId& device);

  static constexpr std::size_t most_waiting = 64;
  Runtime& runtime_;
  std::size_t waiting_ = 0;
  std::unordered_map<DeviceId, std::list<Waiter*>> lines_;  ///< present: somebody is inside
};

}  // namespace tornado::inline v1
