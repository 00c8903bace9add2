// BatchNorm, a sum and a ReLU, in as few passes over the features as the mathematics allows.
//
// Features are rows of `channels` numbers, channels innermost (channels-last memory), in bfloat16 or float32. Sums are
// float32 within a block and float64 across blocks. Blocks have a fixed size and are added in order, so that results do
// not depend on the number of threads.
//
// A row of few channels does not fill a vector register. Several rows are therefore processed at a time, as `lanes`
// numbers whose channel is their index modulo `channels`, and per-channel values are repeated to match.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))

namespace {

using Bfloat16 = uint16_t;
constexpr int64_t MIN_LANES = 256;  // with fewer, the start of an inner loop becomes measurable
constexpr int64_t BLOCK_NUMBERS = 16384;  // blocks of three operands fit into the L1 and L2 caches of a core

INLINE float load(float value) { return value; }

INLINE float load(Bfloat16 value) {
  const uint32_t bits = uint32_t(value) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

INLINE void store(float value, float* out) { *out = value; }

INLINE void store(float value, Bfloat16* out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t nearest_even = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *out = Bfloat16(value != value ? 0x7fc0u : nearest_even);  // rounding the bits of a NaN could give a number
}

// Calls `each(index, lane)` for `size` consecutive numbers that start at lane 0.
template <typename Each>
INLINE void over_lanes(int64_t size, int64_t lanes, Each each) {
  for (int64_t row = 0; row < size; row += lanes) {
    const int64_t count = std::min(lanes, size - row);
    for (int64_t lane = 0; lane < count; ++lane) each(row + lane, lane);
  }
}

template <typename T>
struct Activation {
  const T* x;
  const T* residual;  // null: none
  const float* scale;
  const float* shift;
  bool rectify;
  T* y;
};

template <typename T>
struct Gradient {
  const T* grad_y;
  const T* y;  // null: no ReLU
  const T* x;
  const float* mean;
  // grad_x = of_grad · g + of_x · (x − mean) + constant, where g is the gradient before the ReLU.
  const float* of_grad;
  const float* of_x;
  const float* constant;
  T* grad_x;
  T* grad_residual;  // null: none
};

template <typename T>
INLINE void add_numbers(const T* x, int64_t size, int64_t lanes, float* sum) {
  over_lanes(size, lanes, [=](int64_t at, int64_t lane) { sum[lane] += load(x[at]); });
}

template <typename T>
INLINE void add_squares(const T* x, int64_t size, int64_t lanes, const float* mean, float* sum) {
  over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
    const float apart = load(x[at]) - mean[lane];
    sum[lane] += apart * apart;
  });
}

template <typename T>
INLINE void activate(const Activation<T>& a, int64_t first, int64_t size, int64_t lanes) {
  const T* x = a.x + first;
  T* y = a.y + first;
  const float *scale = a.scale, *shift = a.shift;
  const float least = a.rectify ? 0.0f : -__builtin_inff();
  if (a.residual) {
    const T* residual = a.residual + first;
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
      const float value = load(x[at]) * scale[lane] + shift[lane] + load(residual[at]);
      store(value < least ? least : value, y + at);
    });
  } else {
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
      const float value = load(x[at]) * scale[lane] + shift[lane];
      store(value < least ? least : value, y + at);
    });
  }
}

// A NaN lets the gradient through, as in PyTorch's ReLU.
INLINE float behind_relu(float y, float grad) { return y <= 0.0f ? 0.0f : grad; }

template <typename T>
INLINE void add_gradients(const Gradient<T>& g, int64_t first, int64_t size, int64_t lanes, float* sum, float* product) {
  const T *grad_y = g.grad_y + first, *x = g.x + first;
  const float* mean = g.mean;
  if (g.y) {
    const T* y = g.y + first;
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
      const float grad = behind_relu(load(y[at]), load(grad_y[at]));
      sum[lane] += grad;
      product[lane] += grad * (load(x[at]) - mean[lane]);
    });
  } else {
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
      const float grad = load(grad_y[at]);
      sum[lane] += grad;
      product[lane] += grad * (load(x[at]) - mean[lane]);
    });
  }
}

template <typename T>
INLINE void propagate(const Gradient<T>& g, int64_t first, int64_t size, int64_t lanes) {
  const T *grad_y = g.grad_y + first, *x = g.x + first;
  T* grad_x = g.grad_x + first;
  const float *mean = g.mean, *of_grad = g.of_grad, *of_x = g.of_x, *constant = g.constant;
  const auto through = [=](float grad, int64_t at, int64_t lane) {
    store(of_grad[lane] * grad + of_x[lane] * (load(x[at]) - mean[lane]) + constant[lane], grad_x + at);
  };
  if (!g.y) {
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) { through(load(grad_y[at]), at, lane); });
    return;
  }
  const T* y = g.y + first;
  if (g.grad_residual) {
    T* grad_residual = g.grad_residual + first;
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
      const float grad = behind_relu(load(y[at]), load(grad_y[at]));
      store(grad, grad_residual + at);
      through(grad, at, lane);
    });
  } else {
    over_lanes(size, lanes, [=](int64_t at, int64_t lane) {
      through(behind_relu(load(y[at]), load(grad_y[at])), at, lane);
    });
  }
}

// The compiler makes one version per processor generation of these functions. Templates and parallel regions cannot
// have such versions, so that plain functions wrap them.
#define VERSIONS(T)                                                                                              \
  FOR_EACH_PROCESSOR void numbers_of(const T* x, int64_t size, int64_t lanes, float* sum) {                      \
    add_numbers(x, size, lanes, sum);                                                                            \
  }                                                                                                              \
  FOR_EACH_PROCESSOR void squares_of(const T* x, int64_t size, int64_t lanes, const float* mean, float* sum) {   \
    add_squares(x, size, lanes, mean, sum);                                                                      \
  }                                                                                                              \
  FOR_EACH_PROCESSOR void activate_block(const Activation<T>& a, int64_t first, int64_t size, int64_t lanes) {   \
    activate(a, first, size, lanes);                                                                             \
  }                                                                                                              \
  FOR_EACH_PROCESSOR void gradients_of(const Gradient<T>& g, int64_t first, int64_t size, int64_t lanes,         \
                                       float* sum, float* product) {                                             \
    add_gradients(g, first, size, lanes, sum, product);                                                          \
  }                                                                                                              \
  FOR_EACH_PROCESSOR void propagate_block(const Gradient<T>& g, int64_t first, int64_t size, int64_t lanes) {    \
    propagate(g, first, size, lanes);                                                                            \
  }
VERSIONS(Bfloat16)
VERSIONS(float)

struct Blocks {
  int64_t channels, lanes, step, size, count;

  Blocks(int64_t rows, int64_t channels_)
      : channels(channels_),
        lanes(channels * ((MIN_LANES + channels - 1) / channels)),
        step(std::max<int64_t>(1, BLOCK_NUMBERS / lanes) * lanes),
        size(rows * channels),
        count((size + step - 1) / step) {}

  int64_t size_of(int64_t block) const { return std::min(step, size - block * step); }

  // Returns per-channel values, repeated for every lane.
  std::vector<float> laid_out(const float* values) const {
    std::vector<float> out(lanes);
    for (int64_t lane = 0; lane < lanes; ++lane) out[lane] = values[lane % channels];
    return out;
  }

  // Sums the lanes of each channel.
  void gather(const float* of_lanes, double* of_channels) const {
    std::fill(of_channels, of_channels + channels, 0.0);
    for (int64_t lane = 0; lane < lanes; ++lane) of_channels[lane % channels] += of_lanes[lane];
  }
};

// Mean and variance of each channel. Blocks are merged as in Chan et al. (1983), so that large sums do not cancel.
template <typename T>
void statistics(const T* x, int64_t rows, int64_t channels, int threads, double* mean, double* variance) {
  const Blocks blocks(rows, channels);
  std::vector<double> means(blocks.count * channels), squares(blocks.count * channels);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks.count; ++block) {
    const T* start = x + block * blocks.step;
    const int64_t size = blocks.size_of(block);
    double* own_mean = &means[block * channels];
    std::vector<float> sum(blocks.lanes), middle(blocks.lanes);
    numbers_of(start, size, blocks.lanes, sum.data());
    blocks.gather(sum.data(), own_mean);
    for (int64_t c = 0; c < channels; ++c) own_mean[c] = float(own_mean[c] * channels / size);
    for (int64_t lane = 0; lane < blocks.lanes; ++lane) middle[lane] = own_mean[lane % channels];
    std::fill(sum.begin(), sum.end(), 0.0f);
    squares_of(start, size, blocks.lanes, middle.data(), sum.data());
    blocks.gather(sum.data(), &squares[block * channels]);
  }
  std::fill(mean, mean + channels, 0.0);
  std::fill(variance, variance + channels, 0.0);
  double before = 0.0;
  for (int64_t block = 0; block < blocks.count; ++block) {
    const double more = double(blocks.size_of(block)) / channels, now = before + more;
    for (int64_t c = 0; c < channels; ++c) {
      const double apart = means[block * channels + c] - mean[c];
      mean[c] += apart * more / now;
      variance[c] += squares[block * channels + c] + apart * apart * before * more / now;
    }
    before = now;
  }
  for (int64_t c = 0; c < channels; ++c) variance[c] /= before;
}

template <typename T>
void apply(Activation<T> a, int64_t rows, int64_t channels, int threads) {
  const Blocks blocks(rows, channels);
  const auto scale = blocks.laid_out(a.scale), shift = blocks.laid_out(a.shift);
  a.scale = scale.data();
  a.shift = shift.data();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks.count; ++block)
    activate_block(a, block * blocks.step, blocks.size_of(block), blocks.lanes);
}

// Σ g and Σ g·(x − mean) of each channel.
template <typename T>
void gradient_sums(Gradient<T> g, int64_t rows, int64_t channels, int threads, double* sum, double* product) {
  const Blocks blocks(rows, channels);
  const auto mean = blocks.laid_out(g.mean);
  g.mean = mean.data();
  std::vector<double> sums(blocks.count * channels), products(blocks.count * channels);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks.count; ++block) {
    std::vector<float> own_sum(blocks.lanes), own_product(blocks.lanes);
    gradients_of(g, block * blocks.step, blocks.size_of(block), blocks.lanes, own_sum.data(), own_product.data());
    blocks.gather(own_sum.data(), &sums[block * channels]);
    blocks.gather(own_product.data(), &products[block * channels]);
  }
  std::fill(sum, sum + channels, 0.0);
  std::fill(product, product + channels, 0.0);
  for (int64_t at = 0; at < blocks.count * channels; ++at) {
    sum[at % channels] += sums[at];
    product[at % channels] += products[at];
  }
}

template <typename T>
void backward(Gradient<T> g, int64_t rows, int64_t channels, int threads) {
  const Blocks blocks(rows, channels);
  const auto mean = blocks.laid_out(g.mean), of_grad = blocks.laid_out(g.of_grad), of_x = blocks.laid_out(g.of_x),
             constant = blocks.laid_out(g.constant);
  g.mean = mean.data();
  g.of_grad = of_grad.data();
  g.of_x = of_x.data();
  g.constant = constant.data();
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks.count; ++block)
    propagate_block(g, block * blocks.step, blocks.size_of(block), blocks.lanes);
}

}  // namespace

#define INTERFACE(T, NAME)                                                                                         \
  void statistics_##NAME(const T* x, int64_t rows, int64_t channels, int threads, double* mean, double* variance) { \
    statistics(x, rows, channels, threads, mean, variance);                                                        \
  }                                                                                                                \
  void activate_##NAME(const T* x, const T* residual, const float* scale, const float* shift, int rectify, T* y,   \
                       int64_t rows, int64_t channels, int threads) {                                              \
    apply(Activation<T>{x, residual, scale, shift, rectify != 0, y}, rows, channels, threads);                     \
  }                                                                                                                \
  void gradient_sums_##NAME(const T* grad_y, const T* y, const T* x, const float* mean, int64_t rows,              \
                            int64_t channels, int threads, double* sum, double* product) {                         \
    gradient_sums(Gradient<T>{grad_y, y, x, mean, nullptr, nullptr, nullptr, nullptr, nullptr}, rows, channels,    \
                  threads, sum, product);                                                                          \
  }                                                                                                                \
  void backward_##NAME(const T* grad_y, const T* y, const T* x, const float* mean, const float* of_grad,           \
                       const float* of_x, const float* constant, T* grad_x, T* grad_residual, int64_t rows,        \
                       int64_t channels, int threads) {                                                            \
    backward(Gradient<T>{grad_y, y, x, mean, of_grad, of_x, constant, grad_x, grad_residual}, rows, channels,      \
             threads);                                                                                             \
  }

extern "C" {
int version() { return 1; }  // of this interface; must equal _VERSION in fused.py
INTERFACE(Bfloat16, bfloat16)
INTERFACE(float, float32)
}
