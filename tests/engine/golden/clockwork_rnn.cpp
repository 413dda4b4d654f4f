typedef float real;
#define SINGLE 1
#define VECTOR 64
#include "runtime.h"

struct Call {
  real* vector_b_h;  // vector b_h
  real* vector_period;  // vector period
  real* time;  // time
  real* stream_0;  // stream 0
  real* saved_n;  // saved n
  real* state_h;  // state h
  real* panel_0;  // panel 0
  real* carry_h;  // carry h
  real* gradient_h;  // gradient h
  real* adjoint_0;  // adjoint 0
  real* adjointvector_b_h;  // adjoint vector b_h
  real* norms;  // norms
  real* backpanel_0;  // back panel 0
  real* weight_U_h;  // weight U_h
  real* given_h;  // given h
  real* cameof_h;  // came of h
  real* adjointof_h;  // adjoint of h
  real* clip;  // clip
  const int64_t* rows;
  const int64_t* at;
  const int64_t* kept_at;
  const int64_t* at_h;
  const int64_t* share;
  int64_t first;
  int64_t last;
  int64_t start;
  int64_t T;
  int64_t B;
  int64_t threads;
  int64_t parts;
  int64_t by_units;
  int64_t pack;
  int64_t settle;
  int64_t vectors;
  int64_t w_hidden;
  int64_t w_input;
};

// phase 0: _U_h, n_1, n, h[t]
template <bool WHOLE>
static void forward_0_rows(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,
    int64_t n, const V* p0) {
  real* const at__W_h = a.stream_0 + (a.at[t] - a.start) * 1 * a.w_hidden + b * 1 * a.w_hidden + 0 * a.w_hidden + u;
  real* const at_n = a.saved_n + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at1_h = a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_h = a.state_h + a.at_h[t + 1] * a.w_hidden + b * a.w_hidden + u;
  const V v_b_h = load<WHOLE>(a.vector_b_h + u, n);
  const V v_period = load<WHOLE>(a.vector_period + u, n);
  for (int64_t r = 0; r < rows; r++) {
    const V v_t = set1(real(((const int64_t*)a.time)[b + r] + t));
    const V v__U_h = p0[r * 1];
    const V v__W_h = load<WHOLE>(at__W_h + r * 1 * a.w_hidden, n);
    const V v_n_1 = ((v__W_h + v__U_h) + v_b_h);
    const V v_n = tanh_(v_n_1);
    if (a.saved_n) store<WHOLE>(at_n + r * a.w_hidden, v_n, n);
    const V v1_h = load<WHOLE>(at1_h + r * a.w_hidden, n);
    const V v_h = select((remainder_(v_t, v_period) == set1(real(0.0))), v_n, v1_h);
    store<WHOLE>(at_h + r * a.w_hidden, v_h, n);
  }
}
template <int R>
static void forward_0_block(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t u, int64_t n) {
  V p0[R][1] = {};
  // U_h @ h[t-1]
  product<R, 1>(p0, a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden, a.w_hidden, a.panel_0 + u * 1 * a.w_hidden, a.w_hidden);
  n == LANES ? forward_0_rows<true>(a, part, t, b, R, u, n, p0[0]) : forward_0_rows<false>(a, part, t, b, R, u, n, p0[0]);
}
static void forward_0(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    int64_t b = part.first;
    for (; b + 8 <= part.last; b += 8) forward_0_block<8>(a, part, t, b, u, n);
    for (; b + 6 <= part.last; b += 6) forward_0_block<6>(a, part, t, b, u, n);
    for (; b + 4 <= part.last; b += 4) forward_0_block<4>(a, part, t, b, u, n);
    for (; b + 3 <= part.last; b += 3) forward_0_block<3>(a, part, t, b, u, n);
    for (; b + 2 <= part.last; b += 2) forward_0_block<2>(a, part, t, b, u, n);
    for (; b + 1 <= part.last; b += 1) forward_0_block<1>(a, part, t, b, u, n);
  }
}

// phase 0, backward
template <bool WHOLE>
static void backward_0_rows(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,
    int64_t n) {
  real* const carry_h = a.carry_h + t % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  real* const gradient_h = a.gradient_h + a.at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_n = a.saved_n + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const kept__U_h = a.adjoint_0 + (a.at[t] - a.start) * 1 * a.w_hidden + b * 1 * a.w_hidden + 0 * a.w_hidden + u;
  real* const to1_h = a.carry_h + (t + 1) % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  V sum_b_h{};
  V square_h{};
  const V v_period = load<WHOLE>(a.vector_period + u, n);
  for (int64_t r = 0; r < rows; r++) {
    const V v_t = set1(real(((const int64_t*)a.time)[b + r] + t));
    V a__U_h{};
    V a_n_1{};
    V a_n{};
    V a_h{};
    a_h = load<WHOLE>(carry_h + r * a.w_hidden, n);
    store<WHOLE>(carry_h + r * a.w_hidden, V{}, n);
    if (a.gradient_h) a_h += load<WHOLE>(gradient_h + r * a.w_hidden, n);
    square_h += a_h * a_h;
    a_n = select((remainder_(v_t, v_period) == set1(real(0.0))), a_n + a_h, a_n);
    V a1_h{};
    a1_h = select((remainder_(v_t, v_period) == set1(real(0.0))), a1_h, a1_h + a_h);
    const V v_n = load<WHOLE>(at_n + r * a.w_hidden, n);
    a_n_1 = pulled(a_n_1, (set1(real(1.0)) - (v_n * v_n)), a_n);
    V a__W_h{};
    a__W_h = a__W_h + a_n_1;
    a__U_h = a__U_h + a_n_1;
    V a_b_h{};
    a_b_h = a_b_h + a_n_1;
    store<WHOLE>(kept__U_h + r * 1 * a.w_hidden, a__U_h, n);
    add<WHOLE>(to1_h + r * a.w_hidden, a1_h, n);
    sum_b_h += a_b_h;
  }
  add<WHOLE>(a.adjointvector_b_h + part.index * a.vectors + u, sum_b_h, n);
  if (a.norms) add_square(a.norms, (part.index * a.T + t) * 1 + 0, square_h);
}
static void backward_0(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    n == LANES ? backward_0_rows<true>(a, part, t, part.first, part.last - part.first, u, n) : backward_0_rows<false>(a, part, t, part.first, part.last - part.first, u, n);
  }
}

static void through_0(const Call& a, const Part& part, int64_t t) {
  // adjoint of h[t-1] through U_h
  back_all(part, a.carry_h + (t + 1) % 2 * a.B * a.w_hidden, a.w_hidden, a.adjoint_0 + (a.at[t] - a.start) * 1 * a.w_hidden, 1 * a.w_hidden, a.backpanel_0);
}

static void pack_forward(const Call& a, int thread, int count) {
  pack<1>(a.panel_0, {a.weight_U_h}, a.w_hidden, a.w_hidden, thread, count);
}

static void step_forward(const Call& a, int number, const Part& part, int64_t t) {
  switch (number) {
    case 0: forward_0(a, part, t); break;
  }
}

#ifndef BACKWARD_ALONE
EXPORT void forward(const Call* call) {
  run_forward(*call, 1, pack_forward, step_forward);
}
#endif

// the adjoint of the full state
static void settle_states(const Call& a, const Part& part, int64_t t) {
  for (int64_t b = part.first_row; b < part.last_row; b++) {
    const Adjoint states[] = {
      {a.carry_h + t % 2 * a.B * a.w_hidden + b * a.w_hidden, a.given_h ? a.given_h + a.at[t] * a.w_hidden + b * a.w_hidden : nullptr, a.cameof_h ? a.cameof_h + a.at[t] * a.w_hidden + b * a.w_hidden : nullptr, a.adjointof_h ? a.adjointof_h + a.at[t] * a.w_hidden + b * a.w_hidden : nullptr, a.w_hidden},
    };
    settle_row(states, a.clip, part.index);
  }
}

static void pack_backward(const Call& a, int thread, int count) {
  pack_back<1>(a.backpanel_0, {a.weight_U_h}, a.w_hidden, a.w_hidden, thread, count);
}

static void step_backward(const Call& a, int number, const Part& part, int64_t t) {
  switch (number) {
    case 0: settle_states(a, part, t); break;
    case 1: backward_0(a, part, t); break;
    case 2: through_0(a, part, t); break;
  }
}

#ifndef FORWARD_ALONE
EXPORT void backward(const Call* call) {
  run_backward(*call, call->settle ? 0 : 1, 3, pack_backward, step_backward);
}
#endif

