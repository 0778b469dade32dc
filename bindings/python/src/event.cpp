#include "tornado/event.hpp"

#include "bind.hpp"

namespace tornado::inline v1 {

void bind_event(py::module_& module) {
  py::class_<Event>(module, "Event", "Something an observer may want to know.")
      .def_readonly("sequence", &Event::sequence)
      .def_property_readonly("time", time_of(&Event::time))
      .def_readonly("name", &Event::name)
      .def_property_readonly("fields",
                             [](const Event& self) {
                               return py::module_::import("json").attr("loads")(self.json.empty() ? "{}" : self.json);
                             })
      .def("__repr__",
           [](const Event& self) { return "<Event " + std::to_string(self.sequence) + " " + self.name + ">"; });
}

}  // namespace tornado::inline v1
