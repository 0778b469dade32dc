#include <iostream>

#include "commands/command.hpp"
#include "tornado/config.hpp"

using namespace tornado;

namespace tornadoctl {

int check_config(const Globals& globals, const std::vector<std::string>& words) {
  if (words.size() != 1) return usage("config check FILE");
  auto config = Config::load(words[0]);
  if (!config) return fail(config.error());
  if (auto checked = config->check(); !checked) return fail(checked.error());
  auto differs = config->diff(Config());
  if (globals.json) {
    std::cout << "{\"valid\":true,\"set\":[";
    for (std::size_t i = 0; i < differs.size(); ++i) std::cout << (i > 0 ? "," : "") << "\"" << differs[i] << "\"";
    std::cout << "]}\n";
    return 0;
  }
  std::cout << words[0] << " is good; it sets " << differs.size() << " of its keys away from the default\n";
  for (const auto& key : differs) std::cout << "  " << key << "\n";
  return 0;
}

}  // namespace tornadoctl
