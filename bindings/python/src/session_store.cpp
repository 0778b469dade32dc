#include "tornado/session_store.hpp"

#include <map>

#include "bind.hpp"

namespace tornado::inline v1 {

void bind_session_store(py::module_& module) {
  py::class_<Session>(module, "Session", "A device connected through this gateway.")
      .def_property_readonly("id", &Session::id)
      .def_property_readonly("instance", text_of(&Session::instance))
      .def_property_readonly("user", text_of(&Session::user))
      .def_property_readonly("device", text_of(&Session::device))
      .def_property_readonly("addresses",
                             [](const Session& self) {
                               std::map<std::string, std::string> out;
                               for (const auto& address : self.addresses) out[address.lane.str()] = address.v4.str();
                               return out;
                             })
      .def_property_readonly("public_key", text_of(&Session::key))
      .def_property_readonly("state", [](const Session& self) { return name(self.state); })
      .def_property_readonly("presence", [](const Session& self) { return name(self.presence); })
      .def_property_readonly("reason",
                             [](const Session& self) -> std::optional<std::string> {
                               if (!self.reason) return std::nullopt;
                               return std::string(name(*self.reason));
                             })
      .def_property_readonly("opened", time_of(&Session::opened))
      .def_property_readonly("ended", time_of(&Session::ended))
      .def_readonly("received", &Session::received)
      .def_readonly("sent", &Session::sent)
      .def("__repr__",
           [](const Session& self) { return "<Session " + self.id() + " " + std::string(name(self.state)) + ">"; });
}

}  // namespace tornado::inline v1
