#include "tornado/client.hpp"

#include "base/encoding.hpp"
#include "bind.hpp"

namespace tornado::inline v1 {
namespace {

/// A DeviceClient for several Python threads: one call at a time. Errors carry the HTTP status.
class SharedDeviceClient {
  template <class F>
  auto run(F call) {
    std::lock_guard lock(mutex_);
    auto result = call();
    if (!result) throw HttpException(result.error(), client_.last_status());
    return unwrap(std::move(result));
  }

 public:
  SharedDeviceClient(const std::string& base_url, int timeout) : url_(base_url), client_(base_url, timeout) {}

  std::string pubkey() {
    return run([&] { return client_.pubkey(); }).str();
  }
  DeviceLogin login(const std::string& user, Secret password) {
    return run([&] { return client_.login(user, password); });
  }
  void reauth() {
    run([&] { return client_.reauth(); });
  }
  void logout() {
    run([&] { return client_.logout(); });
  }
  DeviceTunnel initiate(const std::string& public_key, bool preshared_key) {
    PublicKey key = unwrap(PublicKey::parse(public_key));
    return run([&] { return client_.initiate(key, preshared_key); });
  }
  bool heartbeat() {
    return run([&] { return client_.heartbeat(); });
  }
  void disconnect() {
    run([&] { return client_.disconnect(); });
  }
  std::string verify() {
    return run([&] { return client_.verify(); }).str();
  }
  void health() {
    run([&] { return client_.health(); });
  }
  bool signed_in() {
    std::lock_guard lock(mutex_);
    return client_.signed_in();
  }
  const std::string& url() const noexcept { return url_; }

 private:
  std::string url_;
  std::mutex mutex_;
  DeviceClient client_;
};

void bind_values(py::module_& module) {
  py::class_<DeviceLogin>(module, "DeviceLogin", "A sign-in.")
      .def_property_readonly("user_id", text_of(&DeviceLogin::user))
      .def_readonly("username", &DeviceLogin::username)
      .def_readonly("email", &DeviceLogin::email)
      .def_property_readonly("device_id", text_of(&DeviceLogin::device))
      .def_property_readonly("access_token",
                             [](const DeviceLogin& self) { return std::string(self.access_token.reveal()); })
      .def_property_readonly("refresh_token",
                             [](const DeviceLogin& self) { return std::string(self.refresh_token.reveal()); })
      .def("__repr__", [](const DeviceLogin& self) {
        return "<DeviceLogin " + self.username + " device " + self.device.str() + ">";
      });
  py::class_<DeviceLane>(module, "DeviceLane", "The way into one lane.")
      .def_property_readonly("lane", text_of(&DeviceLane::lane))
      .def_property_readonly("address", text_of(&DeviceLane::address))
      .def_property_readonly("address6",
                             [](const DeviceLane& self) -> std::optional<std::string> {
                               if (!self.address6) return std::nullopt;
                               return self.address6->str();
                             })
      .def_readonly("endpoint", &DeviceLane::endpoint)
      .def_property_readonly("server_key", text_of(&DeviceLane::server_key))
      .def("__repr__", [](const DeviceLane& self) {
        return "<DeviceLane " + self.lane.str() + " " + self.address.str() + " via " + self.endpoint + ">";
      });
  py::class_<DeviceTunnel>(module, "DeviceTunnel", "What a device needs to bring its tunnel up.")
      .def_property_readonly("lanes",
                             [](const DeviceTunnel& self) {
                               py::dict out;
                               for (const auto& lane : self.lanes) out[py::str(lane.lane.str())] = py::cast(lane);
                               return out;
                             })
      .def_property_readonly(
          "preshared_key",
          [](const DeviceTunnel& self) -> std::optional<std::string> {
            if (!self.preshared_key) return std::nullopt;
            return base64(self.preshared_key->reveal());
          },
          "Base64, for the peer on every lane; None: not asked for, or not given.")
      .def_property_readonly("heartbeat_ttl", [](const DeviceTunnel& self) { return self.heartbeat_ttl.count(); })
      .def_property_readonly("hard_ttl", [](const DeviceTunnel& self) { return self.hard_ttl.count(); })
      .def("__repr__",
           [](const DeviceTunnel& self) { return "<DeviceTunnel " + std::to_string(self.lanes.size()) + " lanes>"; });
}

}  // namespace

void bind_client(py::module_& module) {
  bind_values(module);
  using Client = SharedDeviceClient;
  py::class_<Client>(module, "DeviceClient", "The device's side of the client API, over plain HTTP.")
      .def(py::init<const std::string&, int>(), py::arg("base_url"), py::arg("timeout") = 10)
      .def_property_readonly("url", &Client::url)
      .def_property_readonly("signed_in", released(&Client::signed_in))
      .def("pubkey", released(&Client::pubkey), "The key that logins are sealed for, base64.")
      .def("_login", released(&Client::login))
      .def("reauth", released(&Client::reauth), "Exchanges the refresh token for new tokens.")
      .def("logout", released(&Client::logout), "Ends the sign-in.")
      .def("initiate", released(&Client::initiate), py::arg("public_key"), py::arg("preshared_key") = false,
           "A session for this WireGuard key (base64), with a preshared key if one is asked for and given.")
      .def("heartbeat", released(&Client::heartbeat), "True: the session had been offline and is back.")
      .def("disconnect", released(&Client::disconnect), "Ends the session; the sign-in stays.")
      .def("verify", released(&Client::verify), "The id of the user the access token belongs to.")
      .def("health", released(&Client::health), "Raises Unavailable unless every part of the gateway works.")
      .def("__repr__", [](const Client& self) { return "<DeviceClient " + self.url() + ">"; });
}

}  // namespace tornado::inline v1
