// The book's recurrence, its output layer and loss, and all their gradients, for one tile of windows after another.
//
// T time steps, B windows, D inputs (the alphabet with one-hot inputs), H hidden units, V vocabulary. As in bptt.py,
// and with row vectors O_t (B, V):
//
//     Z_t = X_t W_xh + H_{t-1} W_hh + b_h          H_t = phi(Z_t)              forward, for t = 1 ... T
//     O_t = H_t W_hq + b_q                         nll = log sum_v exp(O_v) - O_y
//
//     dO_t = softmax(O_t) - [v = y]                                            backward, for t = T ... 1
//     dZ_t = (dZ_{t+1} W_hh' + dO_t W_hq') * phi'(Z_t)                         phi' is 1 - H_t^2, or [H_t > 0]
//
//     dW_hh = sum H_{t-1}' dZ_t     dW_xh = sum X_t' dZ_t     db_h = sum dZ_t      dX_t = dZ_t W_xh'
//     dW_hq = sum H_t' dO_t         db_q  = sum dO_t
//
// all gradients times `scale` at the end: 1 / (T B) for those of the mean loss. `run_tile` is these lines, in order.
//
// How it is fast: the states of a tile of windows stay in the second-level cache from the forward steps to the backward
// ones; dO and dZ exist for a group of time steps only, then the gradients of the weights take them in; a product keeps
// a block of its result in registers.
//
// How any number of threads gives the same bits: windows are shared out in tiles and tiles in chunks, by sizes alone; a
// thread takes whole chunks; chunks are added in their order. AVX2 and AVX-512 give the same bits since the sums of a
// product run along k alone, and sums along a row always take 16 numbers at a time.
//
// build.py compiles this file once for each instruction set, with KERNELS the name of what it exports and VECTOR_BYTES
// the width; fused.py chooses one and starts the threads. There is nothing of the standard library in it, whose inline
// functions the linker could take from the code for a processor that is not there. No -ffast-math: exp rounds by adding
// a large number, and NaN has to stay NaN.

#include <cstdint>
#include <cstring>

struct Arguments {  // the same fields in the same order as in fused.py
    int64_t T, B, D, H, V;
    int64_t is_dense, is_relu, wants_gradients, threads;
    double scale;
    const void* X;  // int64 indices below D, or scalars (T, B, D) whose last dimension is contiguous
    int64_t X_t, X_b;  // strides in elements
    const int64_t* Y;
    int64_t Y_t, Y_b;
    const void *W_xh, *W_hh, *b_h, *W_hq, *b_q;  // contiguous
    void *loss, *nll_TB;  // contiguous; the loss is the sum of nll times scale
    void *dX, *dW_xh, *dW_hh, *db_h, *dW_hq, *db_q;  // contiguous; dX may be null, or with !wants_gradients all
    int64_t chunks, next_chunk, next_thread;  // set by `bytes` to their number, 0 and 0
    int64_t out_of_range;  // set by `finish`: whether an index was, and 0 taken instead
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

// exp, tanh and log. With x = n log 2 + r, |r| <= log 2 / 2: exp(x) = 2^n (e + 1), where e = exp(r) - 1 is a polynomial
// whose relative error is 2^-26 (Lawson's algorithm); tanh(x) = (exp(2x) - 1) / (exp(2x) + 1), and exp(2x) - 1 =
// 2^n e + (2^n - 1) has a small relative error for small x, too.

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

// Products.

template <class S> struct Pair {  // A (rows, K) and B (K, columns) in panels, two vectors wide
    const S* A;
    int64_t a;  // numbers from one row of A to the next
    const S* B;
    int64_t K, b;  // b: the same of B if it is not in panels
};

constexpr int ROWS = VECTOR_BYTES == 64 ? 8 : 6;  // AVX2 has registers for 6 x 2 sums, a number of A, two vectors of B

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

// W (K, columns), read with these strides, in panels of two vectors: panel, k, column.
template <class S>
void pack(const void* W, int64_t stride_k, int64_t stride, int64_t K, int64_t columns, S* to, S padding = 0) {
    const int64_t padded = round_up(columns, WIDE);
    for (int64_t panel = 0; panel < padded; panel += 2 * L<S>)
        for (int64_t k = 0; k < K; k++)
            for (int64_t j = panel; j < panel + 2 * L<S> && j < padded; j++)
                *to++ = j < columns ? ((const S*)W)[k * stride_k + j * stride] : padding;
}

// Sizes, and what the memory holds, on cache lines: packed weights, gradients of each chunk, scratch of each thread.
template <class S> struct Memory {
    int64_t H, V, D;  // padded
    int64_t row;  // numbers from one row of states to the next
    int64_t tile, tiles, chunks, group;  // windows in a tile, but for the last; tiles; chunks; time steps in a group
    S *W_xh, *W_xhT, *W_hh, *W_hhT, *W_hq, *W_hqT, *b_h, *b_q;
    S *dW_xh, *dW_hh, *dW_hqT, *db_h, *db_q, *end_of_gradients;
    double *loss, *out_of_range;
    S *states, *dZ, *dO, *dX, *largest, *sums;
    int32_t *X, *Y;
    uintptr_t end;

    Memory(const Arguments& a, char* begin, int64_t chunk, int64_t thread) : end((uintptr_t)begin) {
        H = round_up(a.H, WIDE), V = round_up(a.V, WIDE), D = round_up(a.D, WIDE);
        row = H % 128 ? H : H + WIDE;  // rows a multiple of 512 bytes apart would meet in few sets of the cache
        tile = a.B >= 128 ? 32 : a.B > 32 ? round_up((a.B + 3) / 4, 8) : 8;  // a small batch has work for four threads
        tiles = (a.B + tile - 1) / tile, chunks = tiles < 1 ? 1 : tiles < 16 ? tiles : 16, group = 128 / tile;
        take(W_xh, a.D * H), take(W_xhT, a.H * D), take(W_hh, a.H * H), take(W_hhT, a.H * H);
        take(W_hq, a.H * V), take(W_hqT, a.V * H), take(b_h, H), take(b_q, V);
        one_of(chunks, chunk, [&] {
            take(loss, 1), take(out_of_range, 1), take(dW_xh, a.D * row), take(dW_hh, a.H * row);
            take(dW_hqT, a.V * row), take(db_h, H), take(db_q, V), take(end_of_gradients, 0);
        });
        one_of(a.threads, thread, [&] {
            take(states, (a.T + 1) * tile * row), take(dZ, group * tile * row), take(dO, group * tile * V);
            take(dX, tile * D), take(largest, tile), take(sums, tile + WIDE);
            take(X, a.T * tile), take(Y, a.T * tile);
        });
    }
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

template <class S> int64_t bytes(Arguments& a) {  // of memory that the following take
    const Memory<S> m(a, nullptr, 0, 0);
    a.chunks = m.chunks, a.next_chunk = a.next_thread = 0;
    return m.end;
}

template <class S> void pack_all(Arguments& a) {
    const Memory<S> m(a, a.memory, 0, 0);
    pack(a.W_hh, a.H, 1, a.H, a.H, m.W_hh);
    pack(a.W_hh, 1, a.H, a.H, a.H, m.W_hhT);
    pack(a.W_hq, a.V, 1, a.H, a.V, m.W_hq);
    pack(a.W_hq, 1, a.V, a.V, a.H, m.W_hqT);
    pack(a.b_h, 0, 1, 1, a.H, m.b_h);
    pack(a.b_q, 0, 1, 1, a.V, m.b_q, -(S)__builtin_inf());  // a symbol beyond V has next to no probability
    pack(a.W_xh, 1, a.H, a.H, a.is_dense ? a.D : 0, m.W_xhT);
    if (a.is_dense) return pack(a.W_xh, a.H, 1, a.D, a.H, m.W_xh);
    for (int64_t i = 0; i < a.D; i++) {  // rows of W_xh + b_h, which are looked up
        pack((const S*)a.W_xh + i * a.H, 0, 1, 1, a.H, m.W_xh + i * m.H);
        add_rows(m.H, m.b_h, 0, 1, m.W_xh + i * m.H);
    }
}

// One tile.

// O (B, V) without its bias to dO, if there are gradients, and nll (B); returns the sum of nll. In several passes, in
// each of which the processor works on many rows at a time: no row has to wait for the last.
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

// Rows of n numbers, from rows that are padded, times `scale`, as rows `first` and so on of `to`.
template <class S> void give(int64_t rows, int64_t n, const S* from, int64_t row, S scale, void* to, int64_t first) {
    for (int64_t b = 0; b < rows; b++)
        for (int64_t j = 0; j < n; j++) ((S*)to)[(first + b) * n + j] = from[b * row + j] * scale;
}

template <class S> void run_tile(const Arguments& a, const Memory<S>& m, int64_t first) {
    const int64_t T = a.T, B = a.B - first < m.tile ? a.B - first : m.tile;
    const int64_t H = m.H, V = m.V, row = m.row, step = B * row;
    const auto X = [&](int64_t t) { return (const S*)a.X + t * a.X_t + first * a.X_b; };  // if dense
    if (!a.is_dense)
        *m.out_of_range += read_indices((const int64_t*)a.X + first * a.X_b, a.X_t, a.X_b, T, B, a.D, m.X);
    *m.out_of_range += read_indices(a.Y + first * a.Y_b, a.Y_t, a.Y_b, T, B, a.V, m.Y);
    memset(m.states, 0, step * sizeof(S));

    for (int64_t t = 0; t < T; t++) {
        S* H_t = m.states + (t + 1) * step;
        const Pair<S> inputs = {X(t), a.X_b, m.W_xh, a.is_dense ? a.D : 0, 0};
        multiply(B, H, inputs, {H_t - step, row, m.W_hh, t ? a.H : 0, 0}, H_t, row);
        for (int64_t b = 0; b < B; b++) {
            const S* bias = a.is_dense ? m.b_h : m.W_xh + m.X[t * B + b] * H;
            for (int64_t j = 0; j < H; j += L<S>) {
                const Vec<S> z = load(H_t + b * row + j) + load(bias + j);
                store(H_t + b * row + j, !a.is_relu ? tanh_of(z) : z < 0 ? Vec<S>{} : z);  // NaN stays NaN
            }
        }
    }

    for (int64_t t = T - 1; t >= 0; t--) {
        const int64_t slot = t % m.group;
        S *H_t = m.states + (t + 1) * step, *dO = m.dO + slot * B * V;
        S *dZ = m.dZ + slot * step, *later = m.dZ + (slot + 1) % m.group * step;
        multiply(B, V, {H_t, row, m.W_hq, a.H, 0}, {}, dO, V);
        *m.loss += softmax(a, m, B, dO, m.Y + t * B, (S*)a.nll_TB + t * a.B + first);
        if (!a.wants_gradients) continue;

        multiply(B, H, {later, row, m.W_hhT, t < T - 1 ? a.H : 0, 0}, {dO, V, m.W_hqT, a.V, 0}, dZ, row);
        for (int64_t n = 0; n < step; n += L<S>) {
            const Vec<S> d = load(dZ + n), h = load(H_t + n);
            store(dZ + n, !a.is_relu ? d * (1 - h * h) : h > 0 ? d : d * 0);
        }
        if (a.dX) {
            multiply(B, m.D, {dZ, row, m.W_xhT, a.H, 0}, {}, m.dX, m.D);
            give<S>(B, a.D, m.dX, m.D, a.scale, a.dX, t * a.B + first);
        }
        if (slot) continue;  // until the group is complete

        const int64_t rows = (T - t < m.group ? T - t : m.group) * B;
        multiply<true>(a.H, H, {H_t - step, row, dZ, rows, row}, {}, m.dW_hh, row);
        multiply<true>(a.V, H, {dO, V, H_t, rows, row}, {}, m.dW_hqT, row);
        add_rows(V, dO, V, rows, m.db_q);
        add_rows(H, dZ, row, rows, m.db_h);
        for (int64_t n = 0; n < rows; n += a.is_dense ? B : 1)
            if (a.is_dense)
                multiply<true>(a.D, H, {X(t + n / B), a.X_b, dZ + n * row, B, row}, {}, m.dW_xh, row);
            else
                add_rows(H, dZ + n * row, row, 1, m.dW_xh + m.X[t * B + n] * row);
    }
}

template <class S> void work(Arguments& a) {  // what each thread does
    const int64_t thread = __atomic_fetch_add(&a.next_thread, 1, __ATOMIC_RELAXED);
    for (int64_t chunk; (chunk = __atomic_fetch_add(&a.next_chunk, 1, __ATOMIC_RELAXED)) < a.chunks;) {
        const Memory<S> m(a, a.memory, chunk, thread);
        memset(m.loss, 0, (char*)m.end_of_gradients - (char*)m.loss);
        for (int64_t tile = m.tiles * chunk / a.chunks; tile < m.tiles * (chunk + 1) / a.chunks; tile++)
            run_tile(a, m, tile * m.tile);
    }
}

template <class S> void finish(Arguments& a) {
    const Memory<S> sum(a, a.memory, 0, 0);
    for (int64_t chunk = 1; chunk < a.chunks; chunk++) {
        const Memory<S> m(a, a.memory, chunk, 0);
        *sum.loss += *m.loss;
        *sum.out_of_range += *m.out_of_range;
        for (S *to = sum.dW_xh, *x = m.dW_xh; a.wants_gradients && to < sum.end_of_gradients; to += L<S>, x += L<S>)
            store(to, load(to) + load(x));
    }
    a.out_of_range = *sum.out_of_range > 0;
    *(S*)a.loss = (S)(*sum.loss * a.scale);
    if (!a.wants_gradients) return;
    give<S>(a.D, a.H, sum.dW_xh, sum.row, a.scale, a.dW_xh, 0);
    give<S>(a.H, a.H, sum.dW_hh, sum.row, a.scale, a.dW_hh, 0);
    give<S>(1, a.H, sum.db_h, 0, a.scale, a.db_h, 0);
    give<S>(1, a.V, sum.db_q, 0, a.scale, a.db_q, 0);
    for (int64_t j = 0; j < a.H; j++)
        for (int64_t v = 0; v < a.V; v++) ((S*)a.dW_hq)[j * a.V + v] = sum.dW_hqT[v * sum.row + j] * (S)a.scale;
}

template <class S> void map(int64_t function, int64_t n, const S* x, S* y) {  // for tests; n: a multiple of 16
    for (int64_t i = 0; i < n; i += L<S>)
        store(y + i, function == 0 ? tanh_of(load(x + i)) : function == 1 ? exp_of(load(x + i)) : log_of(load(x + i)));
}

template <class S> struct Kernel {
    int64_t (*bytes)(Arguments&);
    void (*pack)(Arguments&), (*work)(Arguments&), (*finish)(Arguments&);
    void (*map)(int64_t, int64_t, const S*, S*);
};

template <class S> constexpr Kernel<S> kernel = {bytes<S>, pack_all<S>, work<S>, finish<S>, map<S>};

}  // namespace

extern "C" __attribute__((visibility("default"))) const struct {
    Kernel<float> float32;
    Kernel<double> float64;
    const char* source;  // build.py looks for it
} KERNELS = {kernel<float>, kernel<double>, "source " SOURCE_HASH};
