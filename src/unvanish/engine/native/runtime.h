// Runtime of the emitted kernels: vectors, functions of vectors, panel products. Included after
//   typedef float real;   or   typedef double real;
//   #define SINGLE 1      or   #define SINGLE 0
//   #define VECTOR 64     or   #define VECTOR 32      bytes in a vector
// With FORWARD_ALONE or BACKWARD_ALONE it makes the functions of one pass, of which the other object has none.
// GCC's and Clang's vector extensions, so that any processor works, and a few intrinsics where they say too little.
// No header is read: that is a quarter of the time to compile, and a compiler from a wheel has no OpenMP header.
#if VECTOR == 64 && defined(__AVX512F__)
#define WITH_AVX512
#elif VECTOR == 32 && defined(__AVX2__)
#define WITH_AVX2
#endif

#if SINGLE
#define MATH(name) __builtin_##name##f
typedef __INT32_TYPE__ integer;
#else
#define MATH(name) __builtin_##name
typedef __INT64_TYPE__ integer;
#endif
#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C"
#endif
typedef __INT64_TYPE__ int64_t;

constexpr int LANES = VECTOR / sizeof(real);
constexpr int TALL = VECTOR / 8;  // rows of a register block that is three vectors wide
typedef real V __attribute__((vector_size(VECTOR)));
typedef real VU __attribute__((vector_size(VECTOR), aligned(sizeof(real))));
typedef integer I __attribute__((vector_size(VECTOR)));

#define INLINE static inline __attribute__((always_inline))

INLINE V set1(real a) { return a - V{}; }

// A block of units is whole, or the last one of n < LANES units: then only those are touched.
#ifdef WITH_AVX2
#if SINGLE
typedef int mask_integer;
#else
typedef long long mask_integer;
#endif
typedef mask_integer Mask __attribute__((vector_size(VECTOR)));
INLINE Mask first_lanes(int64_t n) {
  Mask lane{};
  for (int i = 0; i < LANES; i++) lane[i] = i;
  return (Mask)(lane < mask_integer(n));
}
#endif
#ifdef WITH_AVX512
INLINE unsigned first_lanes(int64_t n) { return (1u << n) - 1; }
#endif
#if defined(WITH_AVX2) && SINGLE
INLINE V load_part(const real* p, int64_t n) { return __builtin_ia32_maskloadps256((const V*)p, first_lanes(n)); }
INLINE void store_part(real* p, V v, int64_t n) { __builtin_ia32_maskstoreps256((V*)p, first_lanes(n), v); }
#elif defined(WITH_AVX2)
INLINE V load_part(const real* p, int64_t n) { return __builtin_ia32_maskloadpd256((const V*)p, first_lanes(n)); }
INLINE void store_part(real* p, V v, int64_t n) { __builtin_ia32_maskstorepd256((V*)p, first_lanes(n), v); }
#elif defined(WITH_AVX512) && SINGLE
INLINE V load_part(const real* p, int64_t n) { return __builtin_ia32_loadups512_mask(p, V{}, first_lanes(n)); }
INLINE void store_part(real* p, V v, int64_t n) { __builtin_ia32_storeups512_mask(p, v, first_lanes(n)); }
#elif defined(WITH_AVX512)
INLINE V load_part(const real* p, int64_t n) { return __builtin_ia32_loadupd512_mask(p, V{}, first_lanes(n)); }
INLINE void store_part(real* p, V v, int64_t n) { __builtin_ia32_storeupd512_mask(p, v, first_lanes(n)); }
#else
INLINE V load_part(const real* p, int64_t n) {
  V v{};
  __builtin_memcpy(&v, p, n * sizeof(real));
  return v;
}
INLINE void store_part(real* p, V v, int64_t n) { __builtin_memcpy(p, &v, n * sizeof(real)); }
#endif
template <bool WHOLE> INLINE V load(const real* p, int64_t n) { return WHOLE ? *(const VU*)p : load_part(p, n); }
template <bool WHOLE> INLINE void store(real* p, V v, int64_t n) {
  if (WHOLE) *(VU*)p = v;
  else store_part(p, v, n);
}
template <bool WHOLE> INLINE void add(real* p, V v, int64_t n) { store<WHOLE>(p, load<WHOLE>(p, n) + v, n); }

INLINE V select(I condition, V yes, V no) { return condition ? yes : no; }

// sum + factor · adjoint; nothing is sent where the adjoint is zero, whatever the factor: 0 · inf would be NaN.
INLINE V pulled(V sum, V factor, V adjoint) { return select(adjoint != V{}, sum + factor * adjoint, sum); }

template <typename F> INLINE V each(V x, F function) {
  for (int i = 0; i < LANES; i++) x[i] = function(x[i]);
  return x;
}

// p · 2^n for a whole number n, in two halves, so that results overflow to infinity and underflow gradually.
INLINE V times_power_of_two(V p, V n) {
#if defined(WITH_AVX512) && SINGLE
  return __builtin_ia32_scalefps512_mask(p, n, V{}, -1, 4);  // all lanes, the current rounding
#elif defined(WITH_AVX512)
  return __builtin_ia32_scalefpd512_mask(p, n, V{}, -1, 4);
#else
  const V magic = set1(sizeof(real) == 4 ? 12582912.f : 6755399441055744.);  // the lowest bits of the sum are n
  I whole = (I)(n + magic) - (I)magic, half = whole >> 1;
  constexpr int bias = sizeof(real) == 4 ? 127 : 1023, shift = sizeof(real) == 4 ? 23 : 52;
  V low = (V)((half + bias) << shift), high = (V)((whole - half + bias) << shift);
  return p * low * high;
#endif
}

// exp: 2^n · e^r with n = round(x / ln 2), the polynomial of Cephes in single precision, Taylor's in double.
INLINE V exp_(V x) {
  constexpr bool single = sizeof(real) == 4;
  const V highest = set1(single ? 89.f : 710.), lowest = set1(single ? -104.f : -746.);
  V c = select(x > highest, highest, select(x < lowest, lowest, x));
  const real magic = single ? 12582912.f : 6755399441055744.;  // adding it rounds to a whole number
  V n = (c * real(1.44269504088896340736) + magic) - magic;
  V r = c - n * real(single ? 0.693359375 : 6.93147180369123816490e-01);
  r = r - n * real(single ? -2.12194440e-4 : 1.90821492927058770002e-10);
  V p;
  if (single) {
    p = set1(1.9875691500e-4f);
    const float terms[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    for (float a : terms) p = p * r + real(a);
    p = p * (r * r) + r + real(1);
  } else {
    p = set1(real(1. / 6227020800.));
    const double terms[] = {1. / 479001600., 1. / 39916800., 1. / 3628800., 1. / 362880., 1. / 40320., 1. / 5040.,
                            1. / 720.,       1. / 120.,      1. / 24.,      1. / 6.,      .5,          1.,
                            1.};
    for (double a : terms) p = p * r + real(a);
  }
  return times_power_of_two(p, n);
}

INLINE V sigmoid_(V x) { return real(1) / (real(1) + exp_(-x)); }

// tanh: Cephes' polynomial where |x| is small and 1 - 2/(e^2x + 1) would lose its digits.
INLINE V tanh_(V x) {
  V z = x * x, near;
  if (sizeof(real) == 4) {
    V p = set1(-5.70498872745e-3f);
    const float terms[] = {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f};
    for (float a : terms) p = p * z + real(a);
    near = x + x * z * p;
  } else {
    V p = (real(-9.64399179425052238628e-1) * z + real(-9.92877231001918586564e1)) * z + real(-1.61468768441708447952e3);
    V q = ((z + real(1.12811678491632931402e2)) * z + real(2.23548839060100448583e3)) * z + real(4.84406305325125486048e3);
    near = x + x * z * (p / q);
  }
  V far = real(1) - real(2) / (exp_(x + x) + real(1));
  return select(z < set1(real(0.390625)), near, far);
}

INLINE V log_(V x) { return each(x, [](real a) { return MATH(log)(a); }); }
INLINE V sin_(V x) { return each(x, [](real a) { return MATH(sin)(a); }); }
INLINE V cos_(V x) { return each(x, [](real a) { return MATH(cos)(a); }); }
INLINE V sqrt_(V x) { return each(x, [](real a) { return MATH(sqrt)(a); }); }
INLINE V softplus_(V x) {  // torch's: the argument itself past 20
  return each(x, [](real a) { return a > 20 ? a : MATH(log1p)(MATH(exp)(a)); });
}
INLINE V erf_(V x) { return each(x, [](real a) { return MATH(erf)(a); }); }
INLINE V erfc_(V x) { return each(x, [](real a) { return MATH(erfc)(a); }); }
INLINE V gelu_(V x) { return x * (real(0.5) * erfc_(x * real(-0.7071067811865475244))); }
INLINE V gelu_tanh_(V x) {
  return x * sigmoid_(real(1.5957691216057307117) * (x + real(0.044715) * x * x * x));
}
INLINE V silu_(V x) { return x * sigmoid_(x); }
INLINE V elu_(V x) { return each(x, [](real a) { return a > 0 ? a : MATH(expm1)(a); }); }
INLINE V identity_(V x) { return x; }
INLINE V relu_(V x) { return select(x > V{}, x, select(x == x, V{}, x)); }
INLINE V positive_(V x) { return select(x > V{}, set1(1), V{}); }
INLINE V half_step_(V x) { return select(x > V{}, set1(1), select(x == V{}, set1(0.5), V{})); }
INLINE V sign_(V x) { return select(x > V{}, set1(1), select(x < V{}, set1(-1), V{})); }
INLINE V heaviside_sigmoid_(V x, V) { return positive_(x); }
INLINE V heaviside_fast_sigmoid_(V x, V) { return positive_(x); }
INLINE V heaviside_arctan_(V x, V) { return positive_(x); }
INLINE V heaviside_triangle_(V x, V) { return positive_(x); }
INLINE V abs_(V x) { return select(x < V{}, -x, x); }
INLINE V minimum_(V a, V b) { return select(a < b, a, select(b == b, select(a == a, b, a), b)); }
INLINE V maximum_(V a, V b) { return select(a > b, a, select(b == b, select(a == a, b, a), b)); }
INLINE V softsign_(V x) { return x / (real(1) + abs_(x)); }
INLINE V leaky_relu_(V x) { return select(x > V{}, x, x * real(0.01)); }
INLINE V hardsigmoid_(V x) { return minimum_(maximum_(x + real(3), V{}), set1(6)) / real(6); }
INLINE V power_(V x, int n) {
  V p = x;
  for (int i = 1; i < (n < 0 ? -n : n); i++) p = p * x;
  return n < 0 ? real(1) / p : p;
}
// t - floor(t / period) · period, exact, with the sign of the period, as torch.remainder has it. t is a whole number:
// where the period is one too, and both are small enough to be exact, a division tells the quotient.
INLINE V remainder_(V t, V period) {
  constexpr real exact = sizeof(real) == 4 ? 16777216.f : 9007199254740992.;
  const V whole = __builtin_convertvector(__builtin_convertvector(period, I), V);
  const I usual = (whole == period) & (period > V{}) & (period < exact) & (t < exact);
  integer all = -1;
  for (int i = 0; i < LANES; i++) all &= usual[i];
  if (all) return t - __builtin_convertvector(__builtin_convertvector(t / period, I), V) * period;
  for (int i = 0; i < LANES; i++) {
    const real rest = MATH(fmod)(t[i], period[i]);
    t[i] = rest != 0 && (rest < 0) != (period[i] < 0) ? rest + period[i] : rest;
  }
  return t;
}

// acc[r][c] += sum over k of rows[r][k] · weight(k, c), rows `ld` apart; c counts vectors. A sum waits for its own
// last addition: where there are few, they are cut into several, so that enough of them run side by side.
template <int R, int C, typename Weight>
INLINE void add_products(V (&acc)[R][C], const real* rows, int64_t ld, int64_t count, Weight weight) {
  constexpr int CUTS = R * C > 6 ? 1 : R * C > 3 ? 2 : 4;
  V sum[CUTS][R][C] = {};
  const auto step = [&](V (&to)[R][C], int64_t k) __attribute__((always_inline)) {
    V w[C];
    for (int c = 0; c < C; c++) w[c] = weight(k, c);
    for (int r = 0; r < R; r++) {
      V a = set1(rows[r * ld + k]);
      for (int c = 0; c < C; c++) to[r][c] += a * w[c];
    }
  };
  int64_t k = 0;
  for (; k + CUTS <= count; k += CUTS)
    for (int cut = 0; cut < CUTS; cut++) step(CUTS == 1 ? acc : sum[cut], k + cut);
  for (; k < count; k++) step(acc, k);
  if (CUTS > 1)
    for (int cut = 0; cut < CUTS; cut++)
      for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) acc[r][c] += sum[cut][r][c];
}

// acc[r][c] += sum over k of rows[r][k] · panel[k][c]. Compiled once for each shape, with the sums in registers.
template <int R, int C>
static __attribute__((noinline)) void product(V (&acc)[R][C], const real* rows, int64_t ld, const real* panel, int64_t count) {
  V sum[R][C];
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) sum[r][c] = acc[r][c];
  add_products<R, C>(sum, rows, ld, count, [&](int64_t k, int c) { return *(const VU*)(panel + (k * C + c) * LANES); });
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) acc[r][c] = sum[r][c];
}

// target[r][k] += sum over j of rows[r][j] · panel[k / LANES][j][k % LANES]: back through a matrix.
template <int R, int C, bool WHOLE>
INLINE void product_back(real* target, int64_t ld, const real* rows, int64_t rows_ld, const real* panel, int64_t count, int64_t n) {
  V acc[R][C] = {};
  add_products<R, C>(acc, rows, rows_ld, count,
                     [&](int64_t j, int c) { return *(const VU*)(panel + (c * count + j) * LANES); });
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) {
      real* p = target + r * ld + c * LANES;
      if (WHOLE || c < C - 1) add<true>(p, acc[r][c], LANES);
      else add<false>(p, acc[r][c], n);
    }
}
template <int R>
INLINE void back_rows(real* target, int64_t ld, int64_t from, int64_t to, const real* rows, int64_t rows_ld, const real* panel,
                      int64_t count) {
  constexpr int C = 3;
  int64_t k = from;
  for (; k + C * LANES <= to; k += C * LANES)
    product_back<R, C, true>(target + k, ld, rows, rows_ld, panel + k * count, count, LANES);
  for (; k + LANES <= to; k += LANES)
    product_back<R, 1, true>(target + k, ld, rows, rows_ld, panel + k * count, count, LANES);
  if (k < to) product_back<R, 1, false>(target + k, ld, rows, rows_ld, panel + k * count, count, to - k);
}

// What one thread does of a step: some rows and all units, or all rows and some units.
struct Part {
  int64_t index, parts;
  bool by_units;
  int64_t first, last;          // rows
  int64_t first_row, last_row;  // rows of a function that needs whole rows
  int64_t from(int64_t width) const { return by_units ? (width + LANES - 1) / LANES * index / parts * LANES : 0; }
  int64_t to(int64_t width) const {
    const int64_t end = by_units ? (width + LANES - 1) / LANES * (index + 1) / parts * LANES : width;
    return end < width ? end : width;
  }
};

INLINE void back_all(const Part& part, real* target, int64_t width, const real* rows, int64_t height, const real* panel) {
  const int64_t from = part.from(width), to = part.to(width);
  int64_t b = part.first;
  for (; b + TALL <= part.last; b += TALL)
    back_rows<TALL>(target + b * width, width, from, to, rows + b * height, height, panel, height);
  if constexpr (TALL > 4)
    for (; b + 4 <= part.last; b += 4) back_rows<4>(target + b * width, width, from, to, rows + b * height, height, panel, height);
  for (; b < part.last; b++) back_rows<1>(target + b * width, width, from, to, rows + b * height, height, panel, height);
}

// Pack the weights of a group for the forward pass: panel[block of units][k][product][unit].
template <int G>
static void pack(real* panel, const real* const (&weights)[G], int64_t width, int64_t count, int thread, int threads) {
  const int64_t blocks = (width + LANES - 1) / LANES;
  for (int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; block++) {
    const int64_t n = width - block * LANES < LANES ? width - block * LANES : LANES;
    for (int g = 0; g < G; g++) {
      real* const to = panel + (block * count * G + g) * LANES;
      if (n < LANES)
        for (int64_t k = 0; k < count; k++) store<true>(to + k * G * LANES, V{}, LANES);
      for (int64_t i = 0; i < n; i++) {
        const real* const from = weights[g] + (block * LANES + i) * count;
        for (int64_t k = 0; k < count; k++) to[k * G * LANES + i] = from[k];
      }
    }
  }
}

// Pack them for the backward pass: panel[block of k][product, unit][k].
template <int G>
static void pack_back(real* panel, const real* const (&weights)[G], int64_t width, int64_t count, int thread, int threads) {
  const int64_t blocks = (count + LANES - 1) / LANES;
  for (int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; block++) {
    const int64_t n = count - block * LANES < LANES ? count - block * LANES : LANES;
    for (int g = 0; g < G; g++)
      for (int64_t u = 0; u < width; u++)
        store<true>(panel + ((block * G + g) * width + u) * LANES,
                    load<false>(weights[g] + u * count + block * LANES, n), LANES);
  }
}

static void softmax_row(const real* x, real* y, int64_t width) {
  real most = x[0], sum = 0;
  for (int64_t i = 1; i < width; i++) most = x[i] > most || x[i] != x[i] ? x[i] : most;
  for (int64_t i = 0; i < width; i++) sum += y[i] = MATH(exp)(x[i] - most);
  for (int64_t i = 0; i < width; i++) y[i] /= sum;
}
static bool is_zero(const real* row, int64_t width) {
  for (int64_t i = 0; i < width; i++)
    if (row[i] != 0) return false;
  return true;
}
// The adjoint of the target is taken and blanked; that of the operand is added to. Where it is zero nothing is sent.
static void softmax_back(const real*, const real* y, real* adjoint, real* target, int64_t width) {
  if (is_zero(adjoint, width)) return;
  real sum = 0;
  for (int64_t i = 0; i < width; i++) sum += adjoint[i] * y[i];
  for (int64_t i = 0; i < width; i++) target[i] += y[i] * (adjoint[i] - sum), adjoint[i] = 0;
}

struct Yes {
  static constexpr bool value = true;
};
struct No {
  static constexpr bool value = false;
};
// Σ over a row of what `term` makes of its vectors, the last of which may be shorter.
template <typename Term> INLINE real sum_row(int64_t width, Term term) {
  V total{};
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) total += term(i, Yes(), LANES);
  if (i < width) {
    const V rest = term(i, No(), width - i);
    for (int64_t lane = 0; lane < width - i; lane++) total[lane] += rest[lane];
  }
  real sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += total[lane];
  return sum;
}
template <typename Each> INLINE void each_of_row(int64_t width, Each each) {
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) each(i, Yes(), LANES);
  if (i < width) each(i, No(), width - i);
}
template <typename Whole> INLINE V row_load(Whole, const real* p, int64_t n) { return load<Whole::value>(p, n); }
template <typename Whole> INLINE void row_store(Whole, real* p, V v, int64_t n) { store<Whole::value>(p, v, n); }

struct Moments {
  real mean, scale;
};
static Moments moments(const real* x, int64_t width) {
  const real mean = sum_row(width, [=](int64_t i, auto whole, int64_t n) { return row_load(whole, x + i, n); }) / real(width);
  const real square = sum_row(width, [=](int64_t i, auto whole, int64_t n) {
    const V far = row_load(whole, x + i, n) - mean;
    return far * far;
  });
  return {mean, real(1) / MATH(sqrt)(square / real(width) + real(1e-5))};
}
static void layernorm_row(const real* x, real* y, int64_t width) {
  const Moments m = moments(x, width);
  each_of_row(width, [=](int64_t i, auto whole, int64_t n) {
    row_store(whole, y + i, (row_load(whole, x + i, n) - m.mean) * m.scale, n);
  });
}
static void layernorm_back(const real* x, const real* y, real* adjoint, real* target, int64_t width) {
  if (is_zero(adjoint, width)) return;
  const real scale = moments(x, width).scale;
  const real mean =
      sum_row(width, [=](int64_t i, auto whole, int64_t n) { return row_load(whole, adjoint + i, n); }) / real(width);
  const real slope = sum_row(width, [=](int64_t i, auto whole, int64_t n) {
    return row_load(whole, adjoint + i, n) * row_load(whole, y + i, n);
  }) / real(width);
  each_of_row(width, [=](int64_t i, auto whole, int64_t n) {
    const V a = row_load(whole, adjoint + i, n), there = row_load(whole, target + i, n);
    row_store(whole, target + i, there + scale * (a - mean - row_load(whole, y + i, n) * slope), n);
    row_store(whole, adjoint + i, V{}, n);
  });
}

INLINE void add_square(void* norms, int64_t at, V squares) {
  double sum = 0;
  for (int i = 0; i < LANES; i++) sum += double(squares[i]);
  ((double*)norms)[at] += sum;
}

// The adjoint of a state at the end of a step: what later steps sent, and the gradient of the loss that was given, if
// there is one; and where what came from later steps, and the adjoint as it goes on, are written down, if anybody asks.
struct Adjoint {
  real* carry;
  const real* given;
  real *came, *adjoint;
  int64_t width;
};
// Clip the adjoint over all states of a row. `request` holds the threshold, whether the norm is meant (else every
// value), and three counts for each part: adjoints seen, clipped, not finite. A norm is worked out in double precision,
// where the squares of single precision cannot overflow, and from numbers scaled by the largest.
template <int N> static void clip_row(const Adjoint (&states)[N], double* clip, int64_t part) {
  double* const count = clip + 2 + 3 * part;
  const double threshold = clip[0];
  double largest = 0, squares = 0;
  bool finite = true;
  for (const Adjoint& s : states)
    for (int64_t i = 0; i < s.width; i++) {
      const double size = __builtin_fabs(double(s.carry[i]));
      finite &= __builtin_isfinite(size);
      largest = size > largest ? size : largest;
    }
  count[0]++;
  if (!finite) {
    count[2]++;
    for (const Adjoint& s : states) __builtin_memset(s.carry, 0, s.width * sizeof(real));
  } else if (clip[1] == 0) {
    const real most = real(threshold);
    if (!(largest > threshold)) return;
    count[1]++;
    for (const Adjoint& s : states)
      for (int64_t i = 0; i < s.width; i++) s.carry[i] = s.carry[i] > most ? most : s.carry[i] < -most ? -most : s.carry[i];
  } else if (largest > 0) {
    for (const Adjoint& s : states)
      for (int64_t i = 0; i < s.width; i++) squares += (s.carry[i] / largest) * (s.carry[i] / largest);
    const double norm = __builtin_sqrt(squares);
    if (!(norm * (largest / threshold) > 1)) return;
    count[1]++;
    for (const Adjoint& s : states)
      for (int64_t i = 0; i < s.width; i++) s.carry[i] = real(s.carry[i] / largest / norm * threshold);
  }
}
// Bring what later steps sent and what the loss gave together, clip it, and write down what is asked for.
template <int N> static void settle_row(const Adjoint (&states)[N], real* clip, int64_t part) {
  for (const Adjoint& s : states) {
    if (s.came) __builtin_memcpy(s.came, s.carry, s.width * sizeof(real));
    for (int64_t i = 0; s.given && i < s.width; i++) s.carry[i] += s.given[i];
  }
  if (clip) clip_row(states, (double*)clip, part);
  for (const Adjoint& s : states)
    if (s.adjoint) __builtin_memcpy(s.adjoint, s.carry, s.width * sizeof(real));
}

template <typename Call> INLINE Part part_of(const Call& a, int64_t index, int64_t t) {
  const int64_t rows = a.rows[t];
  if (a.by_units) return {index, a.parts, true, 0, rows, rows * index / a.parts, rows * (index + 1) / a.parts};
  const int64_t first = a.share[index] < rows ? a.share[index] : rows;
  const int64_t last = a.share[index + 1] < rows ? a.share[index + 1] : rows;
  return {index, a.parts, false, first, last, first, last};
}

// Threads are those of the OpenMP runtime that torch has loaded, by GCC's entry points, which LLVM's has too.
#ifndef _WIN32
extern "C" {
void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
void GOMP_barrier(void);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
}
template <typename Work> static void work_of_thread(void* work) {
  (*(const Work*)work)(omp_get_thread_num(), omp_get_num_threads());
}
template <typename Work> static void in_parallel(int64_t threads, const Work& work) {
  if (threads > 1) GOMP_parallel(work_of_thread<Work>, (void*)&work, unsigned(threads), 0);
  else work(0, 1);
}
INLINE void wait_for_all(int threads) {
  if (threads > 1) GOMP_barrier();
}
#else  // torch's runtime has other entry points there: one thread does it all
template <typename Work> static void in_parallel(int64_t, const Work& work) { work(0, 1); }
INLINE void wait_for_all(int) {}
#endif

// The loop over time. Rows do not know of one another: a thread takes its own through all steps, without a
// barrier. Where the units are split, every part of a step waits for all threads.
template <typename Call, typename Pack, typename Step>
static void run(const Call& a, int begin, int count, int64_t from, int64_t to, int64_t by, Pack pack, Step step) {
  in_parallel(a.threads, [&](int thread, int threads) __attribute__((noinline)) {
    if (a.pack) {
      pack(a, thread, threads);
      wait_for_all(threads);
    }
    if (a.by_units) {
      for (int64_t t = from; t != to; t += by)
        for (int number = begin; number < count; number++) {
          for (int64_t part = thread; part < a.parts; part += threads) step(a, number, part_of(a, part, t), t);
          wait_for_all(threads);
        }
    } else {
      for (int64_t part = thread; part < a.parts; part += threads)
        for (int64_t t = from; t != to; t += by) {
          const Part here = part_of(a, part, t);
          if (here.first < here.last)
            for (int number = begin; number < count; number++) step(a, number, here, t);
        }
    }
  });
}
template <typename Call, typename Pack, typename Step>
static void run_forward(const Call& a, int count, Pack pack, Step step) {
  run(a, 0, count, a.first, a.last, 1, pack, step);
}
template <typename Call, typename Pack, typename Step>
static void run_backward(const Call& a, int begin, int count, Pack pack, Step step) {
  run(a, begin, count, a.last - 1, a.first - 1, -1, pack, step);
}

// target[j][k] (+)= sum over n of adjoint[n][j] · x[n][k]: the gradient of a matrix, summed over all steps.
// Rows n are taken in runs that the nearest cache holds; threads share the rows of the matrix.
struct Outer {
  const real *adjoint, *x;
  real* target;
  int64_t adjoint_ld, x_ld, rows, height, width, add, threads;
};
template <int R, int C, bool WHOLE>
INLINE void outer_block(const real* adjoint, int64_t adjoint_ld, const real* x, int64_t x_ld, int64_t count, real* target,
                        int64_t width, int64_t n, bool add) {
  V acc[R][C] = {};
  if (add)
    for (int r = 0; r < R; r++)
      for (int c = 0; c < C; c++)
        acc[r][c] = WHOLE || c < C - 1 ? load<true>(target + r * width + c * LANES, n)
                                       : load<false>(target + r * width + c * LANES, n);
  for (int64_t i = 0; i < count; i++) {
    V w[C];
    for (int c = 0; c < C; c++)
      w[c] = WHOLE || c < C - 1 ? load<true>(x + i * x_ld + c * LANES, n) : load<false>(x + i * x_ld + c * LANES, n);
    for (int r = 0; r < R; r++) {
      V a = set1(adjoint[i * adjoint_ld + r]);
      for (int c = 0; c < C; c++) acc[r][c] += a * w[c];
    }
  }
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) {
      if (WHOLE || c < C - 1) store<true>(target + r * width + c * LANES, acc[r][c], n);
      else store<false>(target + r * width + c * LANES, acc[r][c], n);
    }
}
// Some rows n, some rows j of the matrix: the adjoint of TALL of them begins `block` numbers after that of the
// TALL before, and that of a step `ld` after that of the one before.
struct Tile {
  const real* adjoint;
  int64_t block, ld, first, last, from, to;
  bool add;
};
template <int C, bool WHOLE>
static void outer_columns(const Outer& a, const Tile& tile, int64_t k) {
  const real *x = a.x + tile.first * a.x_ld + k, *adjoint = tile.adjoint;
  const int64_t n = a.width - k - (C - 1) * LANES, count = tile.last - tile.first;
  int64_t j = tile.from;
  for (; j + TALL <= tile.to; j += TALL, adjoint += tile.block)
    outer_block<TALL, C, WHOLE>(adjoint, tile.ld, x, a.x_ld, count, a.target + j * a.width + k, a.width, n, tile.add);
  for (adjoint = a.adjoint + tile.first * a.adjoint_ld; j < tile.to; j++)
    outer_block<1, C, WHOLE>(adjoint + j, a.adjoint_ld, x, a.x_ld, count, a.target + j * a.width + k, a.width, n, tile.add);
}
// Bring the adjoints of TALL rows of the matrix side by side: a wide one reads them many times.
static void pack_adjoint(const Outer& a, Tile& tile, real* packed) {
  const int64_t count = tile.last - tile.first;
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = tile.from; j + TALL <= tile.to; j += TALL)
      __builtin_memcpy(packed + (j - tile.from) * count + i * TALL, a.adjoint + (tile.first + i) * a.adjoint_ld + j,
                       TALL * sizeof(real));
  tile.adjoint = packed, tile.block = TALL * count, tile.ld = TALL;
}
#ifndef BACKWARD_ALONE  // which takes longer to compile
EXPORT void outer(const Outer* call) {
  const Outer& a = *call;
  constexpr int64_t RUN = 96, WIDE = 96;
  in_parallel(a.threads, [&](int64_t thread, int64_t threads) __attribute__((noinline)) {
    const int64_t blocks = (a.height + TALL - 1) / TALL, from = blocks * thread / threads * TALL;
    const int64_t end = blocks * (thread + 1) / threads * TALL, to = end < a.height ? end : a.height;
    real* const packed = a.width < WIDE || to <= from ? nullptr : (real*)__builtin_malloc(RUN * (to - from) * sizeof(real));
    for (int64_t first = 0; first < a.rows; first += RUN) {
      const int64_t last = first + RUN < a.rows ? first + RUN : a.rows;
      Tile tile{a.adjoint + first * a.adjoint_ld + from, TALL, a.adjoint_ld, first, last, from, to, a.add || first > 0};
      if (packed) pack_adjoint(a, tile, packed);  // where there is no memory they are read where they are
      int64_t k = 0;
      for (; k + 3 * LANES <= a.width; k += 3 * LANES) outer_columns<3, true>(a, tile, k);
      for (; k + LANES <= a.width; k += LANES) outer_columns<1, true>(a, tile, k);
      if (k < a.width) outer_columns<1, false>(a, tile, k);
    }
    __builtin_free(packed);
  });
}
#endif
