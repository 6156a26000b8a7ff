#include "bench/probes/measure.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "bench/core/driver.hpp"
#include "carousel/error.hpp"

// Latencies: launches, exchange within a cluster and through L2, barriers, multicast; what fits.

namespace carousel::bench::probes {

namespace {

constexpr int kTrials = 7;

}  // namespace

void Probes::launches() {
    if (!wanted("launch")) return;
    constexpr int kMany = 2000;
    const auto many = [&] {
        for (int i = 0; i < kMany; ++i) api_->launch(queue_, empty());
    };
    line({{"probe", "launch"}, {"kind", "stream"}}, [&](Json& j) {
        many();
        api_->synchronize(queue_);
        j["us"] = rounded(queue_ms(many) * 1e3 / kMany);
    });
    line({{"probe", "launch"}, {"kind", "graph_node"}}, [&](Json& j) {
        api_->begin_capture(queue_);
        void* graph = nullptr;
        try {
            many();
            graph = api_->end_capture(queue_, true);
        } catch (...) {
            api_->end_capture(queue_, false);
            throw;
        }
        if (graph == nullptr) throw Error(ErrorCode::kInternal, "nothing was recorded");
        for (int i = 0; i < 3; ++i) api_->launch_graph(queue_, graph);
        api_->synchronize(queue_);
        std::vector<double> trials;
        for (int i = 0; i < kTrials; ++i) {
            trials.push_back(queue_ms([&] { api_->launch_graph(queue_, graph); }));
        }
        api_->synchronize(queue_);
        api_->release_graph(graph);
        j["us"] = rounded(quantiles_of(trials).median * 1e3 / kMany);
    });
}

void Probes::clusters() {
    if (!wanted("cluster")) return;
    constexpr unsigned kMostShared = 227 * 1024;
    for (const unsigned cluster : {2U, 4U, 8U, 16U}) {
        for (const unsigned bytes : {512U, 1024U, 2048U, 4096U, 8192U, 16384U}) {
            for (const auto& [exchange, name] :
                 {std::pair{Exchange::kRing, "ring"}, std::pair{Exchange::kAllToAll, "all_to_all"},
                  std::pair{Exchange::kAllToAllBulk, "all_to_all_bulk"}}) {
                if (exchange != Exchange::kRing && (2 * cluster + 2) * bytes > kMostShared)
                    continue;
                // One cluster alone, and as many as surely fit.
                for (const unsigned clusters : {1U, std::max(1U, sms() / cluster / 2)}) {
                    const Json about{{"probe", "cluster"},
                                     {"kind", name},
                                     {"cluster", cluster},
                                     {"clusters", clusters},
                                     {"bytes", bytes}};
                    line(about, [&, kind = exchange](Json& j) {
                        double us = us_per_iteration(
                            [&](const Common& common) {
                                return cluster_exchange(common, kind, cluster, clusters, bytes);
                            },
                            200, 2200);
                        if (kind == Exchange::kRing) us /= cluster;  // of one hop
                        j["us"] = rounded(us);
                        const unsigned received =
                            kind == Exchange::kRing ? bytes : bytes * (cluster - 1);
                        j["gb_per_s_per_block"] = rounded(received / us * 1e-3);
                    });
                }
            }
        }
    }
}

void Probes::l2_hops() {
    if (!wanted("l2_hop")) return;
    for (const unsigned blocks : {32U, 64U, 128U}) {
        for (const unsigned bytes : {1024U, 2048U, 4096U, 8192U, 16384U, 32768U}) {
            if (bytes / 16 < blocks) continue;  // every block writes something
            for (const auto& [hop, name] : {std::pair{Hop::kSelfValidating, "self_validating"},
                                            std::pair{Hop::kReleaseFlag, "release_flag"},
                                            std::pair{Hop::kCounter, "counter"}}) {
                const Json about{
                    {"probe", "l2_hop"}, {"kind", name}, {"blocks", blocks}, {"bytes", bytes}};
                line(about, [&, kind = hop](Json& j) {
                    j["us"] = rounded(us_per_iteration(
                        [&](const Common& common) {
                            return l2_hop(common, kind, blocks, bytes, scratch_.data(),
                                          flags_.as<std::uint32_t>());
                        },
                        200, 2200));
                });
            }
        }
    }
}

void Probes::grid_barriers() {
    if (!wanted("grid_barrier")) return;
    for (const unsigned blocks : {32U, 64U, 128U, sms()}) {
        line({{"probe", "grid_barrier"}, {"blocks", blocks}}, [&](Json& j) {
            j["us"] = rounded(us_per_iteration(
                [&](const Common& common) {
                    return grid_barrier(common, blocks, flags_.as<std::uint32_t>());
                },
                200, 2200));
        });
    }
}

void Probes::occupancy() {
    if (!wanted("occupancy")) return;
    for (const unsigned cluster : {1U, 2U, 4U, 8U, 16U}) {
        line({{"probe", "occupancy"}, {"cluster", cluster}, {"shared_bytes", 227 * 1024}},
             [&](Json& j) {
                 const int fit = clusters_that_fit(cluster);
                 if (fit < 0) throw Error(ErrorCode::kCuda, "CUDA error " + std::to_string(-fit));
                 j["clusters"] = fit;
             });
        const auto launch = [&](bool cooperative) {
            return us_per_iteration(
                [&](const Common& common) {
                    cuda::Launch l = big_kernel(common, cluster, cluster);
                    l.cooperative = cooperative;
                    return l;
                },
                1, 2);
        };
        for (const bool cooperative : {false, true}) {
            line({{"probe", "launch_kind"}, {"cluster", cluster}, {"cooperative", cooperative}},
                 [&](Json& j) {
                     launch(cooperative);
                     j["runs"] = true;
                 });
        }
    }
}

void Probes::multicasts() {
    if (!wanted("multicast")) return;
    // Words of 1, beyond what us_per_iteration clears.
    std::byte* data = scratch_.as<std::byte>() + (std::size_t{2} << 20);
    const std::vector<std::uint32_t> ones(65536 / 4, 1);
    copy_to_device(data, ones.data(), 65536, api_->device());
    for (const bool split : {false, true}) {
        double flag_us = 0.0;
        for (const unsigned bytes : {0U, 16384U, 32768U, 65536U}) {
            line({{"probe", "multicast"}, {"split", split}, {"bytes", bytes}, {"cluster", 4}},
                 [&](Json& j) {
                     const double us = us_per_iteration(
                         [&](const Common& common) {
                             return multicast(common, split, bytes, data,
                                              flags_.as<std::uint32_t>());
                         },
                         200, 2200);
                     if (bytes == 0) flag_us = us;
                     j["round_us"] = rounded(us);  // flag, load, answer
                     j["us"] = rounded(us - flag_us);
                 });
        }
    }
}

}  // namespace carousel::bench::probes
