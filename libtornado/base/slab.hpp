#pragma once

#include <boost/pool/pool.hpp>
#include <new>
#include <utility>

namespace tornado::inline v1 {

/// Room for elements of one type that stay for long, in blocks of many (Boost.Pool): none has a header, and what comes
/// and goes meanwhile leaves no gaps between them. All are given up before the slab goes; room that was used once is
/// kept for others. One thread at a time. A build with AddressSanitizer gives each its own memory, which is watched.
template <class T>
class Slab {
 public:
  template <class... Arguments>
  T& make(Arguments&&... arguments) {
#ifdef __SANITIZE_ADDRESS__
    return *new T(std::forward<Arguments>(arguments)...);
#else
    void* room = room_.malloc();
    if (room == nullptr) throw std::bad_alloc();
    try {
      return *new (room) T(std::forward<Arguments>(arguments)...);
    } catch (...) {
      room_.free(room);
      throw;
    }
#endif
  }
  void give_up(T& element) noexcept {
#ifdef __SANITIZE_ADDRESS__
    delete &element;
#else
    element.~T();
    room_.free(&element);
#endif
  }

 private:
  static_assert(alignof(T) <= alignof(void*));
  static constexpr std::size_t first_block = 32, largest_block = 256;
  boost::pool<> room_{sizeof(T), first_block, largest_block};
};

}  // namespace tornado::inline v1
