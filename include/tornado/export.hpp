#pragma once

/// Marks what libtornado exports; everything else has hidden visibility.
#define TORNADO_API [[gnu::visibility("default")]]
