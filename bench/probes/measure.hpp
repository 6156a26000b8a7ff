#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "bench/gpu/gpu_venue.hpp"
#include "bench/probes/probes.hpp"
#include "carousel/tensor.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel::bench::probes {

using Json = nlohmann::ordered_json;

void print(const Json& line);
/// To four significant digits.
double rounded(double value);

/// What carousel_probes measures, a method for each kind; each prints its lines.
class Probes {
public:
    /// `only`: regular expression over the kinds' names. `alive` is called before each line's work.
    Probes(int device, const std::string& only, std::function<void()> alive);

    void header() const;
    void footer() const;

    // exchange.cpp
    void launches();
    void clusters();
    void l2_hops();
    void grid_barriers();
    void occupancy();
    void multicasts();
    // throughput.cpp
    void pointwise_chain();
    void resident();
    void peaks();
    void bandwidths();

private:
    bool wanted(const std::string& name) const;
    unsigned sms() const { return static_cast<unsigned>(api_->caps().num_sms); }

    /// One line, whatever `measure` says or throws. A lost device ends the program.
    void line(Json about, const std::function<void(Json&)>& measure);
    double queue_ms(const std::function<void()>& enqueue);
    /// Microseconds of one iteration: what more iterations take more, the median of some trials.
    /// Errors: Internal: a wait ran out, or wrong data arrived.
    double us_per_iteration(const std::function<cuda::Launch(const Common&)>& make,
                            std::uint32_t few, std::uint32_t many);
    double run_ms(const std::function<cuda::Launch(const Common&)>& make, std::uint32_t iterations);

    std::shared_ptr<cuda::DeviceApi> api_;
    cuda::Queue queue_;
    std::unique_ptr<QueueTimer> timer_;
    std::string only_;
    std::function<void()> alive_;
    int device_;
    Buffer scratch_, flags_, status_;
};

}  // namespace carousel::bench::probes
