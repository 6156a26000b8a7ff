#pragma once

// Symbols marked CAROUSEL_API are the library's ABI; everything else is hidden.
#if defined(_WIN32)
#error "Carousel supports Linux only"
#elif defined(CAROUSEL_STATIC)
#define CAROUSEL_API
#else
#define CAROUSEL_API __attribute__((visibility("default")))
#endif
