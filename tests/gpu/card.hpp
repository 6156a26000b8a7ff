#pragma once

#include <gtest/gtest.h>

#include <string>

#include "carousel/device.hpp"

namespace carousel::test {

inline const Device kCard = Device::cuda(0);

/// Skips with the library's own sentence where there is no usable card. A template over the base, for
/// tests with and without a parameter.
template <class Base>
class OnCardOf : public Base {
protected:
    void SetUp() override {
        std::string why;
        if (!device_usable(kCard, &why)) GTEST_SKIP() << why;
    }
};

using OnCard = OnCardOf<testing::Test>;
template <class Parameter>
using OnCardWith = OnCardOf<testing::TestWithParam<Parameter>>;

}  // namespace carousel::test
