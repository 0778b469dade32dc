#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <mutex>
#include <string>
#include <utility>

#include "tornado/error.hpp"
#include "tornado/secret.hpp"
#include "tornado/types.hpp"

namespace py = pybind11;

namespace tornado::inline v1 {

void bind_error(py::module_& module);
void bind_event(py::module_& module);
void bind_users(py::module_& module);
void bind_session_store(py::module_& module);
void bind_control(py::module_& module);
void bind_client(py::module_& module);
void bind_gateway(py::module_& module);

/// An Error with the HTTP status it came with; 0: it came otherwise.
class HttpException : public Exception {
 public:
  HttpException(Error error, int status_) : Exception(std::move(error)), status(status_) {}
  int status;
};

template <class T>
T unwrap(Result<T> result) {
  return std::move(result).value();
}
inline void unwrap(Result<void> result) {
  result.value();
}

/// A method that may wait: Python's other threads run meanwhile. Arguments and results are C++ values.
template <class R, class C, class... A>
auto released(R (C::*method)(A...)) {
  return [method](C& self, A... arguments) -> R {
    py::gil_scoped_release no_gil;
    return (self.*method)(std::forward<A>(arguments)...);
  };
}

/// An aware datetime in UTC, or None.
py::object to_datetime(Instant instant);

/// Anything with a `str()`, by value.
template <class Class, class Member>
auto text_of(Member Class::*member) {
  return [member](const Class& self) { return (self.*member).str(); };
}
template <class Class>
auto time_of(Instant Class::*member) {
  return [member](const Class& self) { return to_datetime(self.*member); };
}

}  // namespace tornado::inline v1

namespace pybind11::detail {

/// A password or token from a str; the way back is explicit.
template <>
struct type_caster<tornado::Secret> {
  PYBIND11_TYPE_CASTER(tornado::Secret, const_name("str"));
  bool load(handle source, bool) {
    if (!PyUnicode_Check(source.ptr())) return false;
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(source.ptr(), &size);
    if (text == nullptr) throw error_already_set();
    value = tornado::Secret(std::string(text, static_cast<std::size_t>(size)));
    return true;
  }
};

}  // namespace pybind11::detail
