#pragma once

// The whole C++ API (C++17 and later).

#include "carousel/device.hpp"
#include "carousel/error.hpp"
#include "carousel/gemm_tuning.hpp"
#include "carousel/grad_clip.hpp"
#include "carousel/loss.hpp"
#include "carousel/module.hpp"
#include "carousel/optimizer.hpp"
#include "carousel/pass_graphs.hpp"
#include "carousel/rnn.hpp"
#include "carousel/rnn_params.hpp"
#include "carousel/rnn_plan.hpp"
#include "carousel/rnn_spec.hpp"
#include "carousel/schedule.hpp"
#include "carousel/tbptt.hpp"
#include "carousel/tensor.hpp"
