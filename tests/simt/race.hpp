#pragma once

namespace carousel::simt {

struct RaceShadow {};

}  // namespace carousel::simt
