#include "bind.hpp"

PYBIND11_MODULE(_tornado, module) {
  using namespace tornado;
  module.attr("__version__") = TORNADO_VERSION;
  bind_error(module);
  bind_event(module);
  bind_users(module);
  bind_session_store(module);
  bind_control(module);
  bind_client(module);
  bind_gateway(module);
}
