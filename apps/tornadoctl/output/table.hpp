#pragma once

#include <boost/json/value.hpp>
#include <iosfwd>
#include <string_view>
#include <vector>

namespace tornadoctl {

/// A list of objects as a table with these columns; an object as a list of its fields.
void print_for_people(std::ostream& out, const boost::json::value& value, const std::vector<std::string_view>& columns);

}  // namespace tornadoctl
