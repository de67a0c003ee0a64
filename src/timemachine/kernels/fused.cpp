// A recurrent network with its output layer, its loss and all gradients, for one tile of windows after another.
//
// T time steps, B windows, D symbols of the inputs, H hidden units, V vocabulary. The first layer looks up row x_t of
// W_x: the input times the input weights, with one-hot inputs and with an embedding. A layer above reads I_t, the
// states of the layer below. In row vectors:
//
//     Z_t = W_x[x_t] + H_{t-1} W_h + b         or  I_t W_up + H_{t-1} W_h + b          forward, for t = 1 ... T
//     O_t = H_t W_hq + b_q                         nll = log sum_v exp(O_v) - O_y
//
//     dO_t = softmax(O_t) - [v = y]                                                    backward, for t = T ... 1
//     dH_t = dZ_{t+1} W_h' + dO_t W_hq'        or  dZ_{t+1} W_h' + (dZ_t of the layer above) W_up'
//
//     dW_h = sum H_{t-1}' dZ_t     db = sum dZ_t     dW_x[x] = sum of dZ_t where x_t = x     dW_up = sum I_t' dZ_t
//     dW_hq = sum H_t' dO_t        db_q = sum dO_t
//
// All gradients are multiplied by `scale` at the end: 1 / (T B) for the mean loss. `run_tile` is these lines, in order.
// Z_t has H columns for each gate of the cell. `activate` computes H_t from Z_t, and `differentiate` dZ_t from dH_t, by
// equations (9.4.5), (10.1.1) to (10.1.4) and (10.2.1) to (10.2.3) of the book; the GRU's reset gate multiplies H W_h.
//
// Why it is fast: the states of a tile of windows stay in the second-level cache from the forward steps to the backward
// steps; dO and dZ exist for a group of time steps only, until the weights' gradients include them; a product keeps a
// block of its result in registers. Tried: computing dO_t W_hq' for a whole group at once is slower at the book's sizes
// and no faster with 1,025 symbols.
//
// Why any number of threads gives the same bits: windows are divided into tiles and tiles into chunks, by sizes alone;
// a thread computes whole chunks; chunks are added in their order. AVX2 and AVX-512 give the same bits because the sums
// of a product run along k alone, and sums along a row always add 16 numbers at a time.
//
// build.py compiles this file once for each instruction set; KERNELS names the exported table, and VECTOR_BYTES is the
// width of a vector. fused.py chooses an instruction set and starts the threads. page/kernel.cpp includes this file and
// needs no table. The file uses no inline functions of the standard library: the linker might keep a copy compiled for
// an instruction set that this CPU lacks. Compiled without -ffast-math: exp rounds by adding a large number, and NaN
// has to stay NaN.

#include <stdint.h>

enum Cell : int64_t { TANH, RELU, GRU, LSTM };

struct Arguments {  // the same fields in the same order as in fused.py
    int64_t T, B, D, H, V;
    int64_t cell, layers, wants_gradients, threads;
    double scale;
    const int64_t* X;  // indices below D
    int64_t X_t, X_b;  // strides in elements
    const int64_t* Y;
    int64_t Y_t, Y_b;
    // Contiguous, with G gates: (D, G, H), (layers - 1, H, G, H), (layers, H, G, H), (layers, G, H), (H, V), (V). The
    // GRU's W_h has its gates in the order h, r, z, and W_x and b in the order r, z, h; the LSTM's order is i, f, o, c.
    const void *W_x, *W_up, *W_h, *b, *W_hq, *b_q;
    void *loss, *nll_TB;  // contiguous; the loss is the sum of nll times scale
    void *dW_x, *dW_up, *dW_h, *db, *dW_hq, *db_q;  // contiguous; not read with !wants_gradients
    int64_t chunks, next_chunk, next_thread;  // set by `bytes` to their number, 0 and 0
    int64_t out_of_range;  // set by `finish`: whether an index was out of range, and 0 taken instead
    char* memory;  // on the boundary of a cache line
};

namespace {

#define INLINE inline __attribute__((always_inline))

// Vectors of L numbers.

constexpr int64_t WIDE = 16;  // rows are padded to this many numbers, and sums along a row take as many at a time

template <class S> constexpr int64_t L = VECTOR_BYTES / sizeof(S);
template <class S, int64_t BYTES> struct Vectors {
    typedef S type __attribute__((vector_size(BYTES)));
    typedef S in_memory __attribute__((vector_size(BYTES), aligned(alignof(S)), may_alias));
};
template <class S, int64_t BYTES = VECTOR_BYTES> using Vec = typename Vectors<S, BYTES>::type;
typedef Vec<int32_t> IntVec;

template <class S, int64_t BYTES = VECTOR_BYTES> INLINE Vec<S, BYTES> load(const S* p) {
    return *reinterpret_cast<const typename Vectors<S, BYTES>::in_memory*>(p);
}
template <class S> INLINE void store(S* p, Vec<S> x) {
    *reinterpret_cast<typename Vectors<S, VECTOR_BYTES>::in_memory*>(p) = x;
}
template <class V> INLINE V max_of(V a, V b) { return a > b ? a : b; }  // b where one of them is NaN: one instruction
template <class V> INLINE V min_of(V a, V b) { return a < b ? a : b; }
INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// x[0] op ... op x[N - 1], halving.
template <int64_t N, class S, class Op> INLINE S along(const S* x, Op op) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        constexpr int64_t HALF = N / 2 * sizeof(S);
        const Vec<S, HALF> half = op(load<S, HALF>(x), load<S, HALF>(x + N / 2));
        return along<N / 2>(reinterpret_cast<const S*>(&half), op);
    }
}

// The same of n numbers, a multiple of 16.
template <class S, class Op> INLINE S along(const S* x, int64_t n, Op op) {
    S lanes[WIDE];
    for (int64_t lane = 0; lane < WIDE; lane += L<S>) {
        Vec<S> sum = load(x + lane);
        for (int64_t i = lane + WIDE; i < n; i += WIDE) sum = op(sum, load(x + i));
        store(lanes + lane, sum);
    }
    return along<WIDE>(lanes, op);
}

// exp, tanh, log and the logistic function. With x = n log 2 + r, |r| <= log 2 / 2: exp(x) = 2^n (e + 1), where
// e = exp(r) - 1 is a polynomial whose relative error is 2^-26 (Lawson's algorithm). tanh(x) is (exp(2x) - 1) /
// (exp(2x) + 1), and exp(2x) - 1 = 2^n e + (2^n - 1) has a small relative error for small x, too.

INLINE void exp_parts(Vec<float> x, Vec<float>& e, Vec<float>& power) {
    const float magic = 12582912 + 127;  // 1.5 * 2^23: a sum with it is an integer, n + 127 in its lowest bits
    Vec<float> shifted = x * 1.44269504f + magic, n = shifted - magic;
    Vec<float> r = x - n * 0.693359375f + n * 2.12194440e-4f;
    // In parallel where possible: the processor waits for each result as long as for two or three other vectors'.
    Vec<float> rr = r * r, low = r * 0.1666654348373413f + 0.4999999701976776f;
    Vec<float> high = rr * 0.0013882516650483012f + (r * 0.008366547524929047f + 0.04166720062494278f);
    e = (high * rr + low) * rr + r;
    power = (Vec<float>)((IntVec)shifted << 23);
}

// For x <= 0; exp(-80) below -80, far from the denormal numbers, which are slow.
INLINE Vec<float> exp_of(Vec<float> x) {
    Vec<float> e, power;
    exp_parts(max_of(Vec<float>{} - 80, x), e, power);
    return power * e + power;
}

INLINE Vec<float> tanh_of(Vec<float> x) {
    const IntVec sign = (IntVec)x & (int32_t)0x80000000;
    Vec<float> e, power, size = min_of(Vec<float>{} + 10, (Vec<float>)((IntVec)x ^ sign));  // beyond 10 it is 1
    exp_parts(size + size, e, power);
    e = power * e + (power - 1);
    return (Vec<float>)((IntVec)(e / (e + 2)) | sign);
}

INLINE Vec<float> log_of(Vec<float> x) {  // of a positive normal number; x = 2^n (1 + f)
    IntVec n = ((IntVec)x - 0x3f3504f3) >> 23;
    Vec<float> f = (Vec<float>)((IntVec)x - (n << 23)) - 1, p = f * -0.07634496688842773f + 0.1276157647371292f;
    p = (p * f - 0.13160182535648346f) * f + 0.14201757311820984f;
    p = (p * f - 0.16623356938362122f) * f + 0.20001226663589478f;
    p = (p * f - 0.2500081956386566f) * f + 0.3333333134651184f;
    Vec<float> exponent = __builtin_convertvector(n, Vec<float>);
    p = p * (f * f * f) + exponent * -2.12194440e-4f - f * f * 0.5f + f;
    return p + exponent * 0.693359375f + (x - x);  // NaN stays NaN
}

template <class F> INLINE Vec<double> each(Vec<double> x, F f) {
    for (int i = 0; i < L<double>; i++) x[i] = f(x[i]);
    return x;
}
INLINE Vec<double> exp_of(Vec<double> x) { return each(x, [](double y) { return __builtin_exp(y); }); }
INLINE Vec<double> tanh_of(Vec<double> x) { return each(x, [](double y) { return __builtin_tanh(y); }); }
INLINE Vec<double> log_of(Vec<double> x) { return each(x, [](double y) { return __builtin_log(y); }); }

template <class V> INLINE V sigmoid_of(V x) {  // 1 / (1 + exp(-x)), without overflow
    const V e = exp_of(min_of(x, -x)), larger = 1 / (1 + e);
    return x < 0 ? e * larger : larger;
}

// Products.

template <class S> struct Pair {  // A (rows, K) and B (K, columns) in panels, two vectors wide
    const S* A;
    int64_t a;  // numbers from one row of A to the next
    const S* B;
    int64_t K, b;  // b: the same of B if it is not in panels
};

// AVX2 has registers for 6 x 2 sums, a number of A, two vectors of B; a browser's compiler needs some of the 16 itself.
constexpr int ROWS = VECTOR_BYTES == 64 ? 8 : VECTOR_BYTES == 32 ? 6 : 4;

// From `row` on blocks of R rows and fewer, as equal as can be, J vectors wide: C = A B summed over two pairs, or
// (TRANSPOSED) C += A' B of one, where A is (K, rows) and B is not in panels.
template <bool TRANSPOSED, int R, int J, class S>
void blocks(int64_t row, int64_t rows, int64_t column, const Pair<S>* pairs, S* C, int64_t c) {
    const int64_t left = rows - row, number = (left + R - 1) / R;
    for (int64_t larger = left - number * (R - 1); larger > 0; larger--, row += R) {
        Vec<S> sums[R][J] = {};
        for (const Pair<S>* pair = pairs; pair < pairs + (TRANSPOSED ? 1 : 2); pair++) {
            const int64_t a = pair->a, b = TRANSPOSED ? pair->b : J * L<S>;
            const S *A = pair->A + row * (TRANSPOSED ? 1 : a), *B = pair->B + column * (TRANSPOSED ? 1 : pair->K);
            for (int64_t k = 0; k < pair->K; k++, A += TRANSPOSED ? a : 1, B += b) {
                Vec<S> B_k[J];
                for (int j = 0; j < J; j++) B_k[j] = load(B + j * L<S>);
#pragma GCC unroll 8
                for (int r = 0; r < R; r++)
                    for (int j = 0; j < J; j++) sums[r][j] += A[TRANSPOSED ? r : r * a] * B_k[j];
            }
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < J; j++) {
                S* to = C + (row + r) * c + column + j * L<S>;
                store(to, TRANSPOSED ? load(to) + sums[r][j] : sums[r][j]);
            }
    }
    if constexpr (R > 1)
        if (row < rows) blocks<TRANSPOSED, R - 1, J>(row, rows, column, pairs, C, c);
}

template <bool TRANSPOSED = false, class S>
void multiply(int64_t rows, int64_t columns, Pair<S> one, Pair<S> two, S* C, int64_t c) {
    const Pair<S> pairs[] = {one, two};
    for (int64_t column = 0; column < columns; column += 2 * L<S>)
        if (columns - column > L<S>)
            blocks<TRANSPOSED, ROWS, 2>(0, rows, column, pairs, C, c);
        else
            blocks<TRANSPOSED, ROWS, 1>(0, rows, column, pairs, C, c);
}

// C (columns) += the sum of K rows of B.
template <class S> void add_rows(int64_t columns, const S* B, int64_t b, int64_t K, S* C) {
    for (int64_t j = 0; j < columns; j += L<S>) {
        Vec<S> even = {}, odd = {};  // so that one addition need not wait for the last
        for (int64_t k = 0; k + 1 < K; k += 2) even += load(B + k * b + j), odd += load(B + (k + 1) * b + j);
        if (K % 2) even += load(B + (K - 1) * b + j);
        store(C + j, load(C + j) + (even + odd));
    }
}

// One axis of a weight: gates of n numbers each, and the stride from one number to the next. Packing pads each gate.
struct Axis {
    int64_t gates, n, stride;
    int64_t padded() const { return gates * round_up(n, WIDE); }
    int64_t used() const { return padded() - round_up(n, WIDE) + n; }  // without the padding of the last gate
    int64_t at(int64_t i) const {  // where the number is in the weight, or -1 for padding
        const int64_t gate = i / round_up(n, WIDE), rest = i % round_up(n, WIDE);
        return rest < n ? (gate * n + rest) * stride : -1;
    }
};

// A weight in panels of two vectors: panel, k, column.
template <class S> void pack(const void* W, Axis k, Axis column, S* to, S padding = 0) {
    for (int64_t panel = 0; panel < column.padded(); panel += 2 * L<S>) {
        const int64_t columns = column.padded() - panel < 2 * L<S> ? L<S> : 2 * L<S>;
        int64_t at[2 * L<S>];
        for (int64_t j = 0; j < columns; j++) at[j] = column.at(panel + j);
        for (int64_t i = 0; i < k.used(); i++)
            for (int64_t row = k.at(i), j = 0; j < columns; j++)
                *to++ = row < 0 || at[j] < 0 ? padding : ((const S*)W)[row + at[j]];
    }
}

// Sizes, and the contents of the memory, on cache lines: packed weights, gradients of each chunk, scratch of each
// thread. A row of states is one window's, H_t and the numbers that `differentiate` needs:
//
//     h (RNN)      h m r z n (GRU): the candidate's product m, both gates, the candidate      h i f o g c (LSTM)
//
// A row of dZ is dz (RNN), dm dr dz dn (GRU; the first three belong to W_h, the last three to W_x), di df do dg (LSTM).
template <class S> struct Memory {
    int64_t H, V, GH;  // padded; GH is the size of all gates
    int64_t z, row;  // first column of the products in a row of states; numbers from one row to the next
    int64_t d_input, d_row, w_row;  // first column of the input's gradients in a row of dZ; and as above
    int64_t tile, tiles, chunks, group;  // windows in a tile, but for the last; tiles; chunks; time steps in a group
    int64_t states_size, dZ_size, h_size, hT_size, dW_size;  // of one layer
    S *W_x, *W_up, *W_upT, *W_h, *W_hT, *W_hq, *W_hqT, *b, *b_q;
    S *dW_x, *dW_up, *dW_h, *dW_hqT, *db, *db_q, *end_of_gradients;
    double *loss, *out_of_range;
    S *states, *dZ, *dH, *carried, *dO, *largest, *sums;
    int32_t *X, *Y;
    uintptr_t end;

    Memory(const Arguments& a, char* begin, int64_t chunk, int64_t thread) : end((uintptr_t)begin) {
        H = round_up(a.H, WIDE), V = round_up(a.V, WIDE), GH = H * gates(a);
        z = a.cell < GRU ? 0 : H, row = apart(a.cell < GRU ? H : a.cell == GRU ? 5 * H : 6 * H);
        d_input = a.cell == GRU ? H : 0, d_row = apart(a.cell < GRU ? H : 4 * H), w_row = apart(GH);
        tile = a.B >= 128 ? 32 : a.B > 32 ? round_up((a.B + 3) / 4, 8) : 8;  // a small batch has work for four threads
        tiles = (a.B + tile - 1) / tile, chunks = tiles < 1 ? 1 : tiles < 16 ? tiles : 16, group = 128 / tile;
        states_size = (a.T + 1) * tile * row, dZ_size = group * tile * d_row, dW_size = a.H * w_row;
        h_size = a.H * GH, hT_size = GH * H;
        const int64_t layers = a.layers, upper = layers - 1;
        take(W_x, a.D * GH), take(W_up, upper * h_size), take(W_upT, upper * hT_size);
        take(W_h, layers * h_size), take(W_hT, layers * hT_size);
        take(W_hq, a.H * V), take(W_hqT, a.V * H), take(b, layers * GH), take(b_q, V);
        one_of(chunks, chunk, [&] {
            take(loss, 1), take(out_of_range, 1), take(dW_x, a.D * w_row), take(dW_up, upper * dW_size);
            take(dW_h, layers * dW_size), take(dW_hqT, a.V * apart(H)), take(db, layers * GH), take(db_q, V);
            take(end_of_gradients, 0);
        });
        one_of(a.threads, thread, [&] {
            take(states, layers * states_size), take(dZ, layers * dZ_size), take(dH, tile * H);
            take(carried, layers * tile * H), take(dO, group * tile * V), take(largest, tile), take(sums, tile + WIDE);
            take(X, a.T * tile), take(Y, a.T * tile);
        });
    }
    static int64_t gates(const Arguments& a) { return a.cell < GRU ? 1 : a.cell == GRU ? 3 : 4; }
    // Rows a multiple of 512 bytes apart would meet in few sets of the cache.
    static int64_t apart(int64_t n) { return n % 128 ? n : n + WIDE; }
    template <class N> void take(N*& begin, int64_t n) {
        begin = reinterpret_cast<N*>(end);
        end += round_up(n * sizeof(N), 64);
    }
    template <class F> void one_of(int64_t number, int64_t own, F take_all) {
        const uintptr_t begin = end;
        take_all();
        const uintptr_t size = end - begin;
        end = begin + own * size;
        take_all();
        end = begin + number * size;
    }
};

template <class S> int64_t bytes(Arguments& a) {  // of memory that the following functions need
    const Memory<S> m(a, nullptr, 0, 0);
    a.chunks = m.chunks, a.next_chunk = a.next_thread = 0;
    return m.end;
}

template <class S> void pack_all(Arguments& a) {
    const Memory<S> m(a, a.memory, 0, 0);
    const int64_t G = m.gates(a), GH = G * a.H;  // not padded
    const Axis one = {1, 1, 0}, gates = {G, a.H, 1};
    pack(a.W_hq, {1, a.H, a.V}, {1, a.V, 1}, m.W_hq);
    pack(a.W_hq, {1, a.V, 1}, {1, a.H, a.V}, m.W_hqT);
    pack(a.b_q, one, {1, a.V, 1}, m.b_q, -(S)__builtin_inf());  // a symbol beyond V has next to no probability
    for (int64_t l = 0; l < a.layers; l++) {
        const S* W_h = (const S*)a.W_h + l * a.H * GH;
        pack(W_h, {1, a.H, GH}, gates, m.W_h + l * m.h_size);
        pack(W_h, gates, {1, a.H, GH}, m.W_hT + l * m.hT_size);
        pack((const S*)a.b + l * GH, one, gates, m.b + l * m.GH);
        if (l == 0) continue;  // no inputs from below
        const S* W_up = (const S*)a.W_up + (l - 1) * a.H * GH;
        pack(W_up, {1, a.H, GH}, gates, m.W_up + (l - 1) * m.h_size);
        pack(W_up, gates, {1, a.H, GH}, m.W_upT + (l - 1) * m.hT_size);
    }
    for (int64_t row = 0; row < a.D * G; row++)  // of W_x + b, so that the bias is added once per symbol
        for (int64_t j = 0; j < m.H; j++)
            m.W_x[row * m.H + j] = j < a.H ? ((const S*)a.W_x)[row * a.H + j] + ((const S*)a.b)[row % G * a.H + j] : 0;
}

// One tile.

// Turn O (B, V) without its bias into dO, if there are gradients, and compute nll (B); return the sum of nll. Each pass
// is over many rows, so that the processor need not finish one row before it starts the next.
template <class S>
double softmax(const Arguments& a, const Memory<S>& m, int64_t B, S* O, const int32_t* y, S* nll) {
    const int64_t V = m.V;
    for (int64_t b = 0; b < B; b++) {
        S* o = O + b * V;
        for (int64_t v = 0; v < V; v += L<S>) store(o + v, load(o + v) + load(m.b_q + v));
        m.largest[b] = along(o, V, [](auto p, auto q) { return max_of(p, q); });
        nll[b] = m.largest[b] - o[y[b]];
    }
    for (int64_t b = 0; b < B; b++)
        for (int64_t n = b * V; n < (b + 1) * V; n += L<S>) store(O + n, exp_of(load(O + n) - m.largest[b]));
    for (int64_t b = 0; b < B; b++) m.sums[b] = along(O + b * V, V, [](auto p, auto q) { return p + q; });
    for (int64_t b = 0; b < B && a.wants_gradients; b++) {
        const S factor = 1 / m.sums[b];
        for (int64_t n = b * V; n < (b + 1) * V; n += L<S>) store(O + n, load(O + n) * factor);
        O[b * V + y[b]] -= 1;
    }
    double total = 0;
    for (int64_t b = 0; b < B; b += L<S>) {
        store(m.sums + B, Vec<S>{} + 1);  // beyond the last
        store(m.sums + b, log_of(load(m.sums + b)));
    }
    for (int64_t b = 0; b < B; b++) total += nll[b] += m.sums[b];
    return total;
}

// (T, B) indices of a tile; returns whether one was out of range.
bool read_indices(const int64_t* from, int64_t from_t, int64_t from_b, int64_t T, int64_t B, int64_t V, int32_t* to) {
    bool wrong = false;
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++) {
            const int64_t i = from[t * from_t + b * from_b];
            wrong |= i < 0 || i >= V;
            to[t * B + b] = i < 0 || i >= V ? 0 : (int32_t)i;
        }
    return wrong;
}

// Compute H_t in place from the products in the row `r` of one window. `x`: W_x[x] + b, or b; `before`: row of t - 1.
template <Cell CELL, class S> INLINE void activate(int64_t H, S* r, const S* x, const S* before) {
    for (int64_t j = 0; j < H; j += L<S>) {
        S* own = r + j;
        const auto z = [&](int64_t gate) { return load(own + (gate + 1) * H) + load(x + gate * H + j); };
        if constexpr (CELL == GRU) {
            const Vec<S> reset = sigmoid_of(load(own + 2 * H) + load(x + j));
            const Vec<S> update = sigmoid_of(load(own + 3 * H) + load(x + H + j));
            const Vec<S> n = tanh_of(load(own + H) * reset + load(x + 2 * H + j));
            store(own + 2 * H, reset), store(own + 3 * H, update), store(own + 4 * H, n);
            store(own, n + update * (load(before + j) - n));
        } else if constexpr (CELL == LSTM) {
            const Vec<S> input = sigmoid_of(z(0)), forget = sigmoid_of(z(1)), output = sigmoid_of(z(2));
            const Vec<S> node = tanh_of(z(3)), c = forget * load(before + 5 * H + j) + input * node;
            store(own + H, input), store(own + 2 * H, forget), store(own + 3 * H, output), store(own + 4 * H, node);
            store(own + 5 * H, c), store(own, output * tanh_of(c));
        } else {
            const Vec<S> z = load(own) + load(x + j);
            store(own, CELL == TANH ? tanh_of(z) : z < 0 ? Vec<S>{} : z);  // NaN stays NaN
        }
    }
}

// Compute the row dZ of one window from dH. `carried`: the part of dH_{t-1} (GRU) or dC_{t-1} (LSTM) without a product.
template <Cell CELL, class S>
INLINE void differentiate(int64_t H, const S* r, const S* before, const S* dH, S* carried, S* dZ) {
    for (int64_t j = 0; j < H; j += L<S>) {
        const Vec<S> h = load(r + j);
        Vec<S> d = load(dH + j);
        if constexpr (CELL == GRU) {
            const Vec<S> m = load(r + H + j), reset = load(r + 2 * H + j), update = load(r + 3 * H + j);
            const Vec<S> n = load(r + 4 * H + j);
            d += load(carried + j);
            const Vec<S> dn = d * (1 - update) * (1 - n * n);
            store(dZ + j, dn * reset), store(dZ + H + j, dn * m * reset * (1 - reset));
            store(dZ + 2 * H + j, d * (load(before + j) - n) * update * (1 - update)), store(dZ + 3 * H + j, dn);
            store(carried + j, d * update);
        } else if constexpr (CELL == LSTM) {
            const Vec<S> input = load(r + H + j), forget = load(r + 2 * H + j), output = load(r + 3 * H + j);
            const Vec<S> node = load(r + 4 * H + j), tanh_c = tanh_of(load(r + 5 * H + j));
            const Vec<S> dc = load(carried + j) + d * output * (1 - tanh_c * tanh_c);
            store(dZ + j, dc * node * input * (1 - input));
            store(dZ + H + j, dc * load(before + 5 * H + j) * forget * (1 - forget));
            store(dZ + 2 * H + j, d * tanh_c * output * (1 - output));
            store(dZ + 3 * H + j, dc * input * (1 - node * node));
            store(carried + j, dc * forget);
        } else {
            store(dZ + j, CELL == TANH ? d * (1 - h * h) : h > 0 ? d : d * 0);
        }
    }
}

template <Cell CELL, class S> void run_tile(const Arguments& a, const Memory<S>& m, int64_t first) {
    const int64_t T = a.T, B = a.B - first < m.tile ? a.B - first : m.tile, top = a.layers - 1;
    const int64_t H = m.H, V = m.V, row = m.row, d_row = m.d_row, step = B * row, d_step = B * d_row;
    const int64_t used = m.GH - H + a.H;  // of the gates' columns, without the padding of the last one
    *m.out_of_range += read_indices(a.X + first * a.X_b, a.X_t, a.X_b, T, B, a.D, m.X);
    *m.out_of_range += read_indices(a.Y + first * a.Y_b, a.Y_t, a.Y_b, T, B, a.V, m.Y);
    for (int64_t l = 0; l <= top; l++) __builtin_memset(m.states + l * m.states_size, 0, step * sizeof(S));
    __builtin_memset(m.carried, 0, a.layers * m.tile * H * sizeof(S));

    for (int64_t t = 0; t < T; t++)
        for (int64_t l = 0; l <= top; l++) {
            S *H_t = m.states + l * m.states_size + (t + 1) * step, *before = H_t - step;
            Pair<S> below = {};
            if (l) below = {H_t - m.states_size, row, m.W_up + (l - 1) * m.h_size, a.H, 0};
            multiply(B, m.GH, below, {before, row, m.W_h + l * m.h_size, t ? a.H : 0, 0}, H_t + m.z, row);
            for (int64_t b = 0; b < B; b++) {
                const S* x = l ? m.b + l * m.GH : m.W_x + m.X[t * B + b] * m.GH;
                activate<CELL>(H, H_t + b * row, x, before + b * row);
            }
        }

    for (int64_t t = T - 1; t >= 0; t--) {
        const int64_t slot = t % m.group, later = (slot + 1) % m.group;
        S *H_top = m.states + top * m.states_size + (t + 1) * step, *dO = m.dO + slot * B * V;
        if (t == T - 1 || slot == m.group - 1)  // for the whole group, since W_hq may be larger than the cache
            multiply((slot + 1) * B, V, {H_top - slot * step, row, m.W_hq, a.H, 0}, {}, m.dO, V);
        *m.loss += softmax(a, m, B, dO, m.Y + t * B, (S*)a.nll_TB + t * a.B + first);
        if (!a.wants_gradients) continue;

        const int64_t rows = (T - t < m.group ? T - t : m.group) * B;  // of the group, if it is complete
        for (int64_t l = top; l >= 0; l--) {
            S *H_t = m.states + l * m.states_size + (t + 1) * step, *before = H_t - step;
            S *dZ = m.dZ + l * m.dZ_size + slot * d_step, *dZ_later = m.dZ + l * m.dZ_size + later * d_step;
            const Pair<S> after = {dZ_later, d_row, m.W_hT + l * m.hT_size, t < T - 1 ? used : 0, 0};
            Pair<S> above = {dO, V, m.W_hqT, a.V, 0};
            if (l < top) above = {dZ + m.dZ_size, d_row, m.W_upT + l * m.hT_size, used, 0};
            multiply(B, H, after, above, m.dH, H);
            for (int64_t b = 0; b < B; b++) {
                S* carried = m.carried + (l * m.tile + b) * H;
                differentiate<CELL>(H, H_t + b * row, before + b * row, m.dH + b * H, carried, dZ + b * d_row);
            }
            if (slot) continue;  // until the group is complete

            multiply<true>(a.H, m.GH, {before, row, dZ, rows, d_row}, {}, m.dW_h + l * m.dW_size, m.w_row);
            add_rows(m.GH, dZ + m.d_input, d_row, rows, m.db + l * m.GH);
            if (l) {
                const Pair<S> inputs = {H_t - m.states_size, row, dZ, rows, d_row};
                multiply<true>(a.H, m.GH, inputs, {}, m.dW_up + (l - 1) * m.dW_size, m.w_row);
            }
            for (int64_t n = 0; l == 0 && n < rows; n++)
                add_rows(m.GH, dZ + m.d_input + n * d_row, d_row, 1, m.dW_x + m.X[t * B + n] * m.w_row);
        }
        if (slot) continue;

        multiply<true>(a.V, H, {dO, V, H_top, rows, row}, {}, m.dW_hqT, m.apart(H));
        add_rows(V, dO, V, rows, m.db_q);
    }
}

template <class S>
constexpr decltype(&run_tile<TANH, S>) run_tile_of[] = {
    run_tile<TANH, S>, run_tile<RELU, S>, run_tile<GRU, S>, run_tile<LSTM, S>};

template <class S> void work(Arguments& a) {  // what each thread does
    const int64_t thread = __atomic_fetch_add(&a.next_thread, 1, __ATOMIC_RELAXED);
    for (int64_t chunk; (chunk = __atomic_fetch_add(&a.next_chunk, 1, __ATOMIC_RELAXED)) < a.chunks;) {
        const Memory<S> m(a, a.memory, chunk, thread);
        __builtin_memset(m.loss, 0, (char*)m.end_of_gradients - (char*)m.loss);
        for (int64_t tile = m.tiles * chunk / a.chunks; tile < m.tiles * (chunk + 1) / a.chunks; tile++)
            run_tile_of<S>[a.cell](a, m, tile * m.tile);
    }
}

// Rows of gates of n numbers, from gates and rows that are padded, times `scale`.
template <class S>
void give(int64_t rows, int64_t gates, int64_t n, const S* from, int64_t row, S scale, void* to) {
    S* next = (S*)to;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t gate = 0; gate < gates; gate++)
            for (int64_t j = 0; j < n; j++) *next++ = from[i * row + gate * round_up(n, WIDE) + j] * scale;
}

template <class S> void finish(Arguments& a) {
    const Memory<S> sum(a, a.memory, 0, 0);
    for (int64_t chunk = 1; chunk < a.chunks; chunk++) {
        const Memory<S> m(a, a.memory, chunk, 0);
        *sum.loss += *m.loss;
        *sum.out_of_range += *m.out_of_range;
        for (S *to = sum.dW_x, *x = m.dW_x; a.wants_gradients && to < sum.end_of_gradients; to += L<S>, x += L<S>)
            store(to, load(to) + load(x));
    }
    a.out_of_range = *sum.out_of_range > 0;
    *(S*)a.loss = (S)(*sum.loss * a.scale);
    if (!a.wants_gradients) return;
    const int64_t G = sum.gates(a);
    const S scale = a.scale;
    give(a.D, G, a.H, sum.dW_x, sum.w_row, scale, a.dW_x);
    give((a.layers - 1) * a.H, G, a.H, sum.dW_up, sum.w_row, scale, a.dW_up);
    give(a.layers * a.H, G, a.H, sum.dW_h, sum.w_row, scale, a.dW_h);
    give(a.layers, G, a.H, sum.db, sum.GH, scale, a.db);
    give(1, 1, a.V, sum.db_q, 0, scale, a.db_q);
    for (int64_t j = 0; j < a.H; j++)
        for (int64_t v = 0; v < a.V; v++) ((S*)a.dW_hq)[j * a.V + v] = sum.dW_hqT[v * sum.apart(sum.H) + j] * scale;
}

template <class S> void map(int64_t function, int64_t n, const S* x, S* y) {  // for tests; n: a multiple of 16
    for (int64_t i = 0; i < n; i += L<S>) {
        const Vec<S> v = load(x + i);
        const Vec<S> exp_or_tanh = function == 0 ? tanh_of(v) : exp_of(v);
        store(y + i, function < 2 ? exp_or_tanh : function == 2 ? log_of(v) : sigmoid_of(v));
    }
}

template <class S> struct Kernel {
    int64_t (*bytes)(Arguments&);
    void (*pack)(Arguments&), (*work)(Arguments&), (*finish)(Arguments&);
    void (*map)(int64_t, int64_t, const S*, S*);
};

template <class S> constexpr Kernel<S> kernel = {bytes<S>, pack_all<S>, work<S>, finish<S>, map<S>};

}  // namespace

#ifdef KERNELS
extern "C" __attribute__((visibility("default"))) const struct {
    Kernel<float> float32;
    Kernel<double> float64;
    const char* source;  // build.py looks for it
} KERNELS = {kernel<float>, kernel<double>, "source " SOURCE_HASH};
#endif
