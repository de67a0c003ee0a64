// The training of one network in the page: fused.cpp in float32, its arguments and memory, and SGD and AdamW.
//
// page/build.py compiles this file to WebAssembly, which imports nothing; worker.js calls it. Sizes have the names of
// fused.cpp. Each call of `setup` starts a new network; `reserve` makes room for the windows of a batch.

#define VECTOR_BYTES 16
#include "fused.cpp"

extern "C" char __heap_base;  // end of the static data, where memory begins

namespace {

Arguments a;
int64_t size, input_size;  // numbers in all weights; in W_x, which is first
float *weights, *gradients, *means, *squares;  // in the order of `Arguments`; the last two are AdamW's moments
double steps_mean, steps_square;  // AdamW's betas to the power of the number of steps
int32_t* windows;  // (B, T + 1): the inputs of a window are all but the last, its targets all but the first
int64_t* indices;  // the same as int64
char *end_of_network, *end;

template <class N> void take(N*& begin, int64_t n) {
    begin = (N*)(((uintptr_t)end + 63) / 64 * 64);
    end = (char*)(begin + n);
    const uintptr_t pages = ((uintptr_t)end + 65535) / 65536, now = __builtin_wasm_memory_size(0);
    if (pages > now && __builtin_wasm_memory_grow(0, pages - now) == (uintptr_t)-1) __builtin_trap();
}

double run(bool wants_gradients) {  // return the mean loss
    a.wants_gradients = wants_gradients;
    bytes<float>(a);  // starts counting chunks again
    pack_all<float>(a), work<float>(a), finish<float>(a);
    if (a.out_of_range) __builtin_trap();
    return *(float*)a.loss;
}

}  // namespace

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

EXPORT(source) const char* source() { return "source " SOURCE_HASH; }  // build.py looks for it

// Start a network whose weights are all 0; return the address of the weights.
EXPORT(setup) float* setup(int32_t cell, int32_t layers, int32_t T, int32_t V, int32_t H) {
    a = {};
    a.cell = cell, a.layers = layers, a.T = T, a.D = a.V = V, a.H = H, a.threads = 1;
    const int64_t GH = Memory<float>::gates(a) * H;
    const int64_t sizes[] = {V * GH, (layers - 1) * H * GH, layers * H * GH, layers * GH, (int64_t)H * V, V};
    const void** of_weights[] = {&a.W_x, &a.W_up, &a.W_h, &a.b, &a.W_hq, &a.b_q};
    void** of_gradients[] = {&a.dW_x, &a.dW_up, &a.dW_h, &a.db, &a.dW_hq, &a.db_q};
    size = 0, input_size = sizes[0];
    for (const int64_t n : sizes) size += n;
    end = &__heap_base;
    take(weights, 4 * size);
    gradients = weights + size, means = gradients + size, squares = means + size;
    __builtin_memset(weights, 0, 4 * size * sizeof(float));
    steps_mean = steps_square = 1;
    for (int64_t i = 0, first = 0; i < 6; first += sizes[i], i++)
        *of_weights[i] = weights + first, *of_gradients[i] = gradients + first;
    float* loss;
    take(loss, 1);
    a.loss = loss, end_of_network = end;
    return weights;
}

EXPORT(count) int32_t count() { return size; }  // of the weights, and of the gradients
EXPORT(gradients) float* address_of_gradients() { return gradients; }

// Make room for B windows; return the address of their (B, T + 1) indices, which are to be written there.
EXPORT(reserve) int32_t* reserve(int32_t B) {
    const int64_t length = a.T + 1;
    float* nll_TB;
    end = end_of_network, a.B = B, a.scale = 1.0 / (B * a.T);
    take(windows, B * length), take(indices, B * length), take(nll_TB, B * a.T), take(a.memory, bytes<float>(a));
    a.X = indices, a.Y = indices + 1, a.X_t = a.Y_t = 1, a.X_b = a.Y_b = length, a.nll_TB = nll_TB;
    return windows;
}

// Return the mean loss of the reserved windows, in nats, with or without gradients.
EXPORT(loss) double loss(int32_t wants_gradients) {
    for (int64_t i = 0; i < a.B * (a.T + 1); i++) indices[i] = windows[i];
    return run(wants_gradients);
}

// Clip the gradients (not with a radius of 0) and update the weights, unless the norm is not finite. Return the norm
// before clipping. `input_rate`: learning rate of W_x. AdamW: torch's operations, without weight decay.
EXPORT(update) double update(double rate, double input_rate, double radius, int32_t adamw) {
    double sum = 0;
    for (int64_t i = 0; i < size; i++) sum += (double)gradients[i] * gradients[i];
    const double norm = __builtin_sqrt(sum);
    if (!(norm < __builtin_inf())) return norm;
    const float factor = radius && norm > radius ? radius / norm : 1;
    steps_mean *= 0.9, steps_square *= 0.999;
    const float root = __builtin_sqrt(1 - steps_square);
    for (int64_t i = 0; i < size; i++) {
        const float g = gradients[i] * factor;
        const double step = i < input_size ? input_rate : rate;
        if (adamw) {
            means[i] += (g - means[i]) * 0.1f;
            squares[i] = squares[i] * 0.999f + 0.001f * g * g;
            weights[i] -= (float)(step / (1 - steps_mean)) * (means[i] / (__builtin_sqrtf(squares[i]) / root + 1e-8f));
        } else {
            weights[i] -= (float)step * g;
        }
    }
    return norm;
}

// After a call without gradients: return for how many inputs `symbol`, from time step `start` on, the target is the
// likeliest symbol. The states of all tiles but the last are gone, so this runs the tiles again, one after another.
EXPORT(recalled) int32_t recalled(int32_t symbol, int32_t start) {
    const Memory<float> m(a, a.memory, 0, 0);
    const float *W_hq = (const float*)a.W_hq, *b_q = (const float*)a.b_q;
    int32_t number = 0;
    for (int64_t first = 0; first < a.B; first += m.tile) {
        const int64_t B = a.B - first < m.tile ? a.B - first : m.tile;
        run_tile_of<float>[a.cell](a, m, first);
        for (int64_t t = start; t < a.T; t++)
            for (int64_t b = 0; b < B; b++) {
                if (m.X[t * B + b] != symbol) continue;
                const float* state = m.states + (a.layers - 1) * m.states_size + ((t + 1) * B + b) * m.row;
                int64_t likeliest = 0;
                float largest = -__builtin_inff();
                for (int64_t v = 0; v < a.V; v++) {
                    float logit = b_q[v];
                    for (int64_t j = 0; j < a.H; j++) logit += state[j] * W_hq[j * a.V + v];
                    if (logit > largest) largest = logit, likeliest = v;
                }
                number += likeliest == m.Y[t * B + b];
            }
    }
    return number;
}
