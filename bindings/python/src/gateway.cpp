#include "tornado/gateway.hpp"

#include <filesystem>
#include <map>

#include "bind.hpp"
#include "control.hpp"
#include "tornado/api_server.hpp"

namespace tornado::inline v1 {
namespace {

using Settings = std::map<std::string, std::string>;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = std::filesystem::temp_directory_path() / "tornadovpn-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw Exception(Error(errc::store_unavailable, "no temporary directory"));
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

/// A gateway without tunnels, for tests of automation: memory stores, a state directory that goes with it, the client
/// API on a loopback port the kernel chooses, the control socket. It has a loop thread of its own.
class EmbeddedGateway {
 public:
  EmbeddedGateway(const Settings& settings, bool api, bool control) {
    Config config;
    auto set = [&](const std::string& key, const std::string& value) { unwrap(config.set(key, value)); };
    set("state_dir", directory_.path() + "/state");
    set("runtime_dir", directory_.path() + "/run");
    set("wireguard.backend", "memory");
    set("client_api.listen", "127.0.0.1:0");
    set("auth.hash_memory_kib", "8192");
    set("auth.hash_passes", "1");
    for (const auto& [key, value] : settings) set(key, value);
    unwrap(config.check());
    gateway_.emplace(runtime_, config);
    if (api) api_.emplace(runtime_, *gateway_);
    if (control) control_.emplace(runtime_, *gateway_);
  }
  ~EmbeddedGateway() { end(); }

  void open() {
    std::lock_guard lock(mutex_);
    if (!gateway_) throw Exception(Error(errc::failed_precondition, "the gateway was closed"));
    if (thread_) throw Exception(Error(errc::conflict, "the gateway is open"));
    thread_.emplace(runtime_.start());
    unwrap(runtime_.wait(gateway_->start()));
    if (control_) unwrap(runtime_.call([this] { return control_->listen(); }));
    if (api_) unwrap(runtime_.wait(api_->listen()));
    if (!api_) runtime_.call([this] { gateway_->listening(); });
  }

  void close() {
    std::lock_guard lock(mutex_);
    end();
  }

  User add_user(std::string name, std::string email, Secret password, int max_devices) {
    NewUser user(std::move(name), std::move(email));
    user.password = std::move(password);
    user.max_devices = max_devices;
    std::lock_guard lock(mutex_);
    return unwrap(runtime_.wait(opened().users().create(std::move(user))));
  }

  std::vector<Session> sessions() {
    std::lock_guard lock(mutex_);
    Gateway& gateway = opened();
    return runtime_.call([&] { return gateway.sessions().list("", 10'000); }).sessions;
  }

  std::vector<Component> health() {
    std::lock_guard lock(mutex_);
    Gateway& gateway = opened();
    return runtime_.call([&] { return gateway.health(); });
  }

  std::string url() {
    std::lock_guard lock(mutex_);
    (void)opened();
    if (!api_) throw Exception(Error(errc::failed_precondition, "the gateway was made with api=False"));
    auto endpoints = runtime_.call([this] { return api_->endpoints(); });
    return "http://" + endpoints.at(0).str();
  }

  std::string control_socket() {
    std::lock_guard lock(mutex_);
    if (!control_) throw Exception(Error(errc::failed_precondition, "the gateway has no control socket"));
    return gateway_->config().runtime_dir + "/control.sock";
  }

  const std::string& directory() const noexcept { return directory_.path(); }

 private:
  Gateway& opened() {
    if (!thread_ || !gateway_) throw Exception(Error(errc::failed_precondition, "the gateway is not open"));
    return *gateway_;
  }

  /// Stops what runs and destroys it in the reverse order of its making, on this thread.
  void end() noexcept {
    if (thread_) {
      if (api_) (void)runtime_.wait(api_->drain(Seconds(1)));
      if (control_) runtime_.call([this] { control_->close(); });
      (void)runtime_.wait(gateway_->stop());
    }
    thread_.reset();
    control_.reset();
    api_.reset();
    gateway_.reset();
  }

  TemporaryDirectory directory_;
  std::mutex mutex_;
  Runtime runtime_;
  std::optional<Gateway> gateway_;
  std::optional<ApiServer> api_;
  std::optional<ControlServer> control_;
  std::optional<LoopThread> thread_;
};

/// Destroys without the interpreter's lock: the end may wait.
struct Released {
  void operator()(EmbeddedGateway* gateway) const {
    py::gil_scoped_release no_gil;
    delete gateway;
  }
};

std::string setting(const py::handle& value) {
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>() ? "true" : "false";
  return py::str(value);
}

std::unique_ptr<EmbeddedGateway, Released> make(const py::dict& settings, bool api, bool control) {
  Settings texts;
  for (const auto& [key, value] : settings) texts[key.cast<std::string>()] = setting(value);
  py::gil_scoped_release no_gil;
  return std::unique_ptr<EmbeddedGateway, Released>(new EmbeddedGateway(texts, api, control));
}

}  // namespace

void bind_gateway(py::module_& module) {
  py::class_<Component>(module, "Component", "A part of the gateway and whether it works.")
      .def_readonly("name", &Component::name)
      .def_readonly("ready", &Component::ready)
      .def_readonly("detail", &Component::detail)
      .def("__repr__",
           [](const Component& self) { return "<Component " + self.name + (self.ready ? " ready>" : " not ready>"); });
  using G = EmbeddedGateway;
  py::class_<G, std::unique_ptr<G, Released>>(
      module, "Gateway",
      "A gateway in this process without tunnels, for tests of automation. A context manager; what it kept is gone "
      "when "
      "it closes. `settings` are configuration keys, for example {'session.heartbeat_ttl': 10}.")
      .def(py::init(&make), py::arg("settings") = py::dict(), py::kw_only(), py::arg("api") = true,
           py::arg("control") = true)
      .def("open", released(&G::open))
      .def("close", released(&G::close))
      .def("__enter__",
           [](py::object self) {
             self.attr("open")();
             return self;
           })
      .def("__exit__", [](py::object self, const py::args&) { self.attr("close")(); })
      .def("_add_user", released(&G::add_user))
      .def("sessions", released(&G::sessions), "Live sessions.")
      .def("health", released(&G::health))
      .def_property_readonly("url", released(&G::url), "Where the client API listens.")
      .def_property_readonly("control_socket", released(&G::control_socket))
      .def_property_readonly("directory", &G::directory)
      .def(
          "control_client",
          [](G& self, int timeout) {
            return std::make_unique<SharedControlClient>(released(&G::control_socket)(self), timeout);
          },
          py::arg("timeout") = 60, py::keep_alive<0, 1>(),
          "A client of the control socket; it keeps the gateway alive.");
}

}  // namespace tornado::inline v1
