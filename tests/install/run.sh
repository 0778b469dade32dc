#!/bin/sh
# run.sh BUILD SCRATCH: installs BUILD under SCRATCH and builds and runs a consumer, with CMake and with pkg-config.
set -eu
build=$1
scratch=$2
source=$(cd "$(dirname "$0")" && pwd)
compiler=${CXX:-c++}
rm -rf "$scratch"
mkdir -p "$scratch"
# Moved after the installation: no file may know where it was installed.
cmake --install "$build" --prefix "$scratch/first" >"$scratch/install.log"
mv "$scratch/first" "$scratch/prefix"
prefix=$scratch/prefix
libdir=$(dirname "$(find "$prefix" -name 'libtornado.so' | head -n 1)")
pkgconfig=$(dirname "$(find "$prefix" -name tornado.pc)")

echo "== find_package"
cmake -S "$source" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$compiler" >"$scratch/cmake.log"
cmake --build "$scratch/cmake" >>"$scratch/cmake.log" || { cat "$scratch/cmake.log"; exit 1; }
mkdir "$scratch/with_cmake"
"$scratch/cmake/consumer" "$scratch/with_cmake"

echo "== pkg-config"
export PKG_CONFIG_PATH="$pkgconfig"
test "$(pkg-config --modversion tornado)" = "$(sed -n 's/^Version: //p' "$pkgconfig/tornado.pc")"
# shellcheck disable=SC2046
"$compiler" -Wall -Wextra "$source/main.cpp" -o "$scratch/consumer" $(pkg-config --cflags --libs tornado)
mkdir "$scratch/with_pkgconfig"
LD_LIBRARY_PATH="$libdir" "$scratch/consumer" "$scratch/with_pkgconfig"

echo "== programs and headers"
"$prefix/bin/tornadod" --version
"$prefix/bin/tornadoctl" --version
for header in "$prefix"/include/tornado/*.hpp; do
  test -f "$source/../../include/tornado/$(basename "$header")"
done
if grep -rn -- "$source\|$build" "$prefix/include" "$pkgconfig" "$libdir/cmake"; then
  echo "an installed file names the build tree" >&2
  exit 1
fi
