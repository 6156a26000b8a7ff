#pragma once

#include <memory>
#include <string>

#include "bench/core/side.hpp"

namespace carousel::bench {

/// A Python process with torch in it (bench/torch_peer.py), which all sides of a program share. It
/// computes and times what it is asked, one request at a time, and sleeps between them.
class TorchProcess {
public:
    /// Errors: Unsupported: no such python, or it has no torch, with its words.
    TorchProcess(const std::string& python, int num_threads);
    ~TorchProcess();
    std::string version() const;

    struct Impl;
    Impl& impl() { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

/// torch.nn.LSTM, GRU or RNN on a problem, through autograd, as users call them.
class TorchSide final : public Side {
public:
    /// `dtype`: f32 or bf16. Errors: Unsupported: the case has resets or projections, a cell that torch
    /// lacks, or the processor has no bf16, with torch's words.
    TorchSide(const Problem& problem, std::shared_ptr<TorchProcess> process, DType dtype);
    ~TorchSide() override;
    std::string name() const override;                          ///< "torch f32"
    std::size_t workspace_bytes() const override { return 0; }  // temporaries of its own
    std::size_t reserve_bytes() const override { return 0; }
    void forward(StreamRef stream, bool training) override;
    void backward(StreamRef stream, bool weights) override;
    void train(StreamRef stream) override;
    Outcome outcome(bool states_and_weights) override;
    std::optional<double> own_turn_ms(Pass pass, const TurnLengths& lengths) override;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace carousel::bench
