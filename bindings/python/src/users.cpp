#include "tornado/users.hpp"

#include "bind.hpp"

namespace tornado::inline v1 {

void bind_users(py::module_& module) {
  py::class_<User>(module, "User", "An account.")
      .def_property_readonly("id", text_of(&User::id))
      .def_readonly("username", &User::username)
      .def_readonly("email", &User::email)
      .def_readonly("active", &User::active)
      .def_readonly("max_devices", &User::max_devices)
      .def_property_readonly("created", time_of(&User::created))
      .def_property_readonly("last_login", time_of(&User::last_login))
      .def("__repr__", [](const User& self) { return "<User " + self.username + " " + self.id.str() + ">"; });
}

}  // namespace tornado::inline v1
