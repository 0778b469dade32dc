#include "control.hpp"

#include <boost/json/object.hpp>

#include "api/operations.hpp"
#include "base/json.hpp"

namespace tornado::inline v1 {
namespace {

std::string_view kind_name(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::integer:
      return "integer";
    case ParameterKind::flag:
      return "flag";
    case ParameterKind::secret:
      return "secret";
    case ParameterKind::text:
    case ParameterKind::document:
      break;
  }
  return "text";
}

/// The operations table as plain Python values; methods and stubs are made from it.
py::list listed_operations() {
  py::list out;
  for (const Operation& operation : operations()) {
    py::list parameters;
    for (const Parameter& parameter : operation.parameters) {
      py::dict entry;
      entry["name"] = parameter.name;
      entry["kind"] = kind_name(parameter.kind);
      entry["required"] = parameter.required;
      entry["summary"] = parameter.summary;
      parameters.append(entry);
    }
    py::dict entry;
    entry["name"] = operation.name;
    entry["summary"] = operation.summary;
    entry["columns"] = py::cast(operation.columns);
    entry["parameters"] = parameters;
    out.append(entry);
  }
  return out;
}

/// Waits in short steps, so that Ctrl-C is noticed.
Event next_event(EventStream& stream) {
  for (;;) {
    std::optional<Event> event;
    {
      py::gil_scoped_release no_gil;
      event = stream.wait(1);
    }
    if (event) return std::move(*event);
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

std::unique_ptr<EventStream> open_stream(SharedControlClient& client, std::optional<std::uint64_t> after) {
  py::gil_scoped_release no_gil;
  return std::make_unique<EventStream>(client.path(), client.timeout(), after);
}

}  // namespace

SharedControlClient::SharedControlClient(std::string path, int timeout)
    : path_(std::move(path)), timeout_(timeout), client_(path_, timeout) {
  if (timeout < 1 || timeout > 3600) throw std::invalid_argument("timeout: 1 to 3600 seconds");
}

std::string SharedControlClient::call(const std::string& method, const std::string& params_json) {
  std::lock_guard lock(mutex_);
  return unwrap(client_.call(method, params_json));
}

EventStream::EventStream(const std::string& path, int timeout, std::optional<std::uint64_t> after)
    : client_(std::in_place, path, timeout) {
  if (!after) {
    auto status = unwrap(parse_json(unwrap(client_->call("gateway.status"))));
    after = static_cast<std::uint64_t>(integer_at(status.as_object(), "last_event").value_or(0));
  }
  unwrap(client_->subscribe(*after));
}

std::optional<Event> EventStream::wait(int seconds) {
  std::lock_guard lock(mutex_);
  if (!client_) throw Exception(Error(errc::failed_precondition, "the stream is closed"));
  auto event = client_->next_event(std::max(1, seconds));
  if (!event && event.error().code() == errc::deadline_exceeded) return std::nullopt;
  return unwrap(std::move(event));
}

void EventStream::close() {
  std::lock_guard lock(mutex_);
  client_.reset();
}

void bind_control(py::module_& module) {
  module.def("operations", &listed_operations, "The operations of the control socket.");
  py::class_<EventStream>(module, "EventStream", "Events as they happen, oldest first. An iterator that waits.")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &next_event)
      .def("wait", released(&EventStream::wait), py::arg("seconds"),
           "The next event, or None if none came within so many seconds.")
      .def("close", released(&EventStream::close));
  py::class_<SharedControlClient>(module, "ControlClient",
                                  "The control socket of a gateway. One method per operation; see `tornadoctl help`.")
      .def(py::init<std::string, int>(), py::arg("socket_path"), py::arg("timeout") = 60)
      .def_property_readonly("socket_path", &SharedControlClient::path)
      .def("_call_json", released(&SharedControlClient::call))
      .def("events", &open_stream, py::arg("after") = py::none(),
           "The event stream after a sequence number; from now on without one.")
      .def("__repr__", [](const SharedControlClient& self) { return "<ControlClient " + self.path() + ">"; });
}

}  // namespace tornado::inline v1
