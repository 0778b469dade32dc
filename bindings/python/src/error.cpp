#include "tornado/error.hpp"

#include <array>
#include <stdexcept>

#include "bind.hpp"

namespace tornado::inline v1 {
namespace {

constexpr error_class classes[] = {
    error_class::invalid_argument,   error_class::unauthenticated, error_class::permission_denied,
    error_class::not_found,          error_class::already_exists,  error_class::failed_precondition,
    error_class::resource_exhausted, error_class::unavailable,     error_class::deadline_exceeded,
    error_class::cancelled,          error_class::data_loss,       error_class::internal,
};

/// One per class, for the life of the interpreter.
std::array<PyObject*, std::size(classes)> types{};

std::string pascal_case(std::string_view snake) {
  std::string out;
  bool upper = true;
  for (char c : snake) {
    if (c != '_') out += upper ? static_cast<char>(c - 'a' + 'A') : c;
    upper = c == '_';
  }
  return out;
}

void raise(const Error& error, int status) {
  std::string text(name(error.code()));
  if (!error.detail().empty() && error.detail() != text) text += ": " + error.detail();
  py::handle type(types[static_cast<std::size_t>(class_of(error.code()))]);
  py::object instance = type(text);
  instance.attr("code") = name(error.code());
  instance.attr("detail") = error.detail();
  instance.attr("status") = status == 0 ? py::object(py::none()) : py::object(py::int_(status));
  PyErr_SetObject(type.ptr(), instance.ptr());
}

void translate(std::exception_ptr thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const HttpException& e) {
    raise(e.error(), e.status);
  } catch (const Exception& e) {
    raise(e.error(), 0);
  }
}

}  // namespace

void bind_error(py::module_& module) {
  py::dict members;
  members["code"] = "internal";
  members["detail"] = "";
  members["status"] = py::none();
  PyObject* base =
      PyErr_NewExceptionWithDoc("tornadovpn.Error",
                                "An operation failed. `code` is a stable name, `detail` a text for people, "
                                "`status` the HTTP status if it came over HTTP.",
                                nullptr, members.ptr());
  module.add_object("Error", base);
  for (error_class value : classes) {
    std::string type_name = pascal_case(name(value));
    PyObject* type = PyErr_NewException(("tornadovpn." + type_name).c_str(), base, nullptr);
    types[static_cast<std::size_t>(value)] = type;
    module.add_object(type_name.c_str(), type);
  }
  py::register_exception_translator(&translate);
}

py::object to_datetime(Instant instant) {
  if (instant == Instant()) return py::none();
  auto datetime = py::module_::import("datetime");
  auto utc = datetime.attr("timezone").attr("utc");
  auto epoch = datetime.attr("datetime")(1970, 1, 1, py::arg("tzinfo") = utc);
  return epoch + datetime.attr("timedelta")(py::arg("milliseconds") = instant.time_since_epoch().count());
}

}  // namespace tornado::inline v1
