typedef float real;
#define SINGLE 1
#define VECTOR 64
#include "runtime.h"

struct Call {
  real* vector_b_r;  // vector b_r
  real* vector_b_z;  // vector b_z
  real* stream_0;  // stream 0
  real* saved_r;  // saved r
  real* saved_z;  // saved z
  real* state_h;  // state h
  real* saved__U_n_operand;  // saved _U_n_operand
  real* panel_0;  // panel 0
  real* scratch_z;  // scratch z
  real* scratch__U_n_operand;  // scratch _U_n_operand
  real* adjoint_0;  // adjoint 0
  real* carry_h;  // carry h
  real* adjoint_2;  // adjoint 2
  real* adjointvector_b_z;  // adjoint vector b_z
  real* adjointvector_b_r;  // adjoint vector b_r
  real* backpanel_0;  // back panel 0
  real* vector_b_n;  // vector b_n
  real* saved_n;  // saved n
  real* panel_1;  // panel 1
  real* gradient_h;  // gradient h
  real* adjoint_1;  // adjoint 1
  real* adjointvector_b_n;  // adjoint vector b_n
  real* norms;  // norms
  real* backpanel_1;  // back panel 1
  real* weight_U_r;  // weight U_r
  real* weight_U_z;  // weight U_z
  real* weight_U_n;  // weight U_n
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

// phase 0: _U_r, _U_z, r_1, r, z_1, z, _U_n_operand
template <bool WHOLE>
static void forward_0_rows(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,
    int64_t n, const V* p0) {
  real* const at__W_r = a.stream_0 + (a.at[t] - a.start) * 3 * a.w_hidden + b * 3 * a.w_hidden + 0 * a.w_hidden + u;
  real* const at_r = a.saved_r + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at__W_z = a.stream_0 + (a.at[t] - a.start) * 3 * a.w_hidden + b * 3 * a.w_hidden + 1 * a.w_hidden + u;
  real* const at_z = a.saved_z + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at1_h = a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at__U_n_operand = a.saved__U_n_operand + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  const V v_b_r = load<WHOLE>(a.vector_b_r + u, n);
  const V v_b_z = load<WHOLE>(a.vector_b_z + u, n);
  for (int64_t r = 0; r < rows; r++) {
    const V v__U_r = p0[r * 2];
    const V v__U_z = p0[r * 2 + 1];
    const V v__W_r = load<WHOLE>(at__W_r + r * 3 * a.w_hidden, n);
    const V v_r_1 = ((v__W_r + v__U_r) + v_b_r);
    const V v_r = sigmoid_(v_r_1);
    if (a.saved_r) store<WHOLE>(at_r + r * a.w_hidden, v_r, n);
    const V v__W_z = load<WHOLE>(at__W_z + r * 3 * a.w_hidden, n);
    const V v_z_1 = ((v__W_z + v__U_z) + v_b_z);
    const V v_z = sigmoid_(v_z_1);
    store<WHOLE>(at_z + r * a.w_hidden, v_z, n);
    const V v1_h = load<WHOLE>(at1_h + r * a.w_hidden, n);
    const V v__U_n_operand = (v_r * v1_h);
    store<WHOLE>(at__U_n_operand + r * a.w_hidden, v__U_n_operand, n);
  }
}
template <int R>
static void forward_0_block(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t u, int64_t n) {
  V p0[R][2] = {};
  // U_r, U_z @ h[t-1]
  product<R, 2>(p0, a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden, a.w_hidden, a.panel_0 + u * 2 * a.w_hidden, a.w_hidden);
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
  real* const scratch_z = a.scratch_z + b * a.w_hidden + u;
  real* const scratch__U_n_operand = a.scratch__U_n_operand + b * a.w_hidden + u;
  real* const at1_h = a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_r = a.saved_r + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_z = a.saved_z + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const kept__U_r = a.adjoint_0 + (a.at[t] - a.start) * 2 * a.w_hidden + b * 2 * a.w_hidden + 0 * a.w_hidden + u;
  real* const kept__U_z = a.adjoint_0 + (a.at[t] - a.start) * 2 * a.w_hidden + b * 2 * a.w_hidden + 1 * a.w_hidden + u;
  real* const to1_h = a.carry_h + (t + 1) % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  real* const kept__W_z = a.adjoint_2 + (a.at[t] - a.start) * 3 * a.w_hidden + b * 3 * a.w_hidden + 1 * a.w_hidden + u;
  real* const kept__W_r = a.adjoint_2 + (a.at[t] - a.start) * 3 * a.w_hidden + b * 3 * a.w_hidden + 0 * a.w_hidden + u;
  V sum_b_z{};
  V sum_b_r{};
  for (int64_t r = 0; r < rows; r++) {
    V a__U_r{};
    V a__U_z{};
    V a_r_1{};
    V a_r{};
    V a_z_1{};
    V a_z{};
    a_z += load<WHOLE>(scratch_z + r * a.w_hidden, n);
    store<WHOLE>(scratch_z + r * a.w_hidden, V{}, n);
    V a__U_n_operand{};
    a__U_n_operand += load<WHOLE>(scratch__U_n_operand + r * a.w_hidden, n);
    store<WHOLE>(scratch__U_n_operand + r * a.w_hidden, V{}, n);
    const V v1_h = load<WHOLE>(at1_h + r * a.w_hidden, n);
    a_r = pulled(a_r, v1_h, a__U_n_operand);
    const V v_r = load<WHOLE>(at_r + r * a.w_hidden, n);
    V a1_h{};
    a1_h = pulled(a1_h, v_r, a__U_n_operand);
    const V v_z = load<WHOLE>(at_z + r * a.w_hidden, n);
    a_z_1 = pulled(a_z_1, (v_z * (set1(real(1.0)) - v_z)), a_z);
    V a__W_z{};
    a__W_z = a__W_z + a_z_1;
    a__U_z = a__U_z + a_z_1;
    V a_b_z{};
    a_b_z = a_b_z + a_z_1;
    a_r_1 = pulled(a_r_1, (v_r * (set1(real(1.0)) - v_r)), a_r);
    V a__W_r{};
    a__W_r = a__W_r + a_r_1;
    a__U_r = a__U_r + a_r_1;
    V a_b_r{};
    a_b_r = a_b_r + a_r_1;
    store<WHOLE>(kept__U_r + r * 2 * a.w_hidden, a__U_r, n);
    store<WHOLE>(kept__U_z + r * 2 * a.w_hidden, a__U_z, n);
    add<WHOLE>(to1_h + r * a.w_hidden, a1_h, n);
    store<WHOLE>(kept__W_z + r * 3 * a.w_hidden, a__W_z, n);
    sum_b_z += a_b_z;
    store<WHOLE>(kept__W_r + r * 3 * a.w_hidden, a__W_r, n);
    sum_b_r += a_b_r;
  }
  add<WHOLE>(a.adjointvector_b_z + part.index * a.vectors + u, sum_b_z, n);
  add<WHOLE>(a.adjointvector_b_r + part.index * a.vectors + u, sum_b_r, n);
}
static void backward_0(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    n == LANES ? backward_0_rows<true>(a, part, t, part.first, part.last - part.first, u, n) : backward_0_rows<false>(a, part, t, part.first, part.last - part.first, u, n);
  }
}

static void through_0(const Call& a, const Part& part, int64_t t) {
  // adjoint of h[t-1] through U_r, U_z
  back_all(part, a.carry_h + (t + 1) % 2 * a.B * a.w_hidden, a.w_hidden, a.adjoint_0 + (a.at[t] - a.start) * 2 * a.w_hidden, 2 * a.w_hidden, a.backpanel_0);
}

// phase 1: _U_n, n_1, n, h[t]
template <bool WHOLE>
static void forward_1_rows(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,
    int64_t n, const V* p1) {
  real* const at__W_n = a.stream_0 + (a.at[t] - a.start) * 3 * a.w_hidden + b * 3 * a.w_hidden + 2 * a.w_hidden + u;
  real* const at_n = a.saved_n + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_z = a.saved_z + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at1_h = a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_h = a.state_h + a.at_h[t + 1] * a.w_hidden + b * a.w_hidden + u;
  const V v_b_n = load<WHOLE>(a.vector_b_n + u, n);
  for (int64_t r = 0; r < rows; r++) {
    const V v__U_n = p1[r * 1];
    const V v__W_n = load<WHOLE>(at__W_n + r * 3 * a.w_hidden, n);
    const V v_n_1 = ((v__W_n + v__U_n) + v_b_n);
    const V v_n = tanh_(v_n_1);
    if (a.saved_n) store<WHOLE>(at_n + r * a.w_hidden, v_n, n);
    const V v_z = load<WHOLE>(at_z + r * a.w_hidden, n);
    const V v1_h = load<WHOLE>(at1_h + r * a.w_hidden, n);
    const V v_h = (((set1(real(1.0)) - v_z) * v_n) + (v_z * v1_h));
    store<WHOLE>(at_h + r * a.w_hidden, v_h, n);
  }
}
template <int R>
static void forward_1_block(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t u, int64_t n) {
  V p1[R][1] = {};
  // U_n @ _U_n_operand
  product<R, 1>(p1, a.saved__U_n_operand + a.kept_at[t] * a.w_hidden + b * a.w_hidden, a.w_hidden, a.panel_1 + u * 1 * a.w_hidden, a.w_hidden);
  n == LANES ? forward_1_rows<true>(a, part, t, b, R, u, n, p1[0]) : forward_1_rows<false>(a, part, t, b, R, u, n, p1[0]);
}
static void forward_1(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    int64_t b = part.first;
    for (; b + 8 <= part.last; b += 8) forward_1_block<8>(a, part, t, b, u, n);
    for (; b + 6 <= part.last; b += 6) forward_1_block<6>(a, part, t, b, u, n);
    for (; b + 4 <= part.last; b += 4) forward_1_block<4>(a, part, t, b, u, n);
    for (; b + 3 <= part.last; b += 3) forward_1_block<3>(a, part, t, b, u, n);
    for (; b + 2 <= part.last; b += 2) forward_1_block<2>(a, part, t, b, u, n);
    for (; b + 1 <= part.last; b += 1) forward_1_block<1>(a, part, t, b, u, n);
  }
}

// phase 1, backward
template <bool WHOLE>
static void backward_1_rows(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,
    int64_t n) {
  real* const carry_h = a.carry_h + t % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  real* const gradient_h = a.gradient_h + a.at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at1_h = a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_n = a.saved_n + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_z = a.saved_z + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const kept__U_n = a.adjoint_1 + (a.at[t] - a.start) * 1 * a.w_hidden + b * 1 * a.w_hidden + 0 * a.w_hidden + u;
  real* const to_z = a.scratch_z + b * a.w_hidden + u;
  real* const to1_h = a.carry_h + (t + 1) % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  real* const kept__W_n = a.adjoint_2 + (a.at[t] - a.start) * 3 * a.w_hidden + b * 3 * a.w_hidden + 2 * a.w_hidden + u;
  V sum_b_n{};
  V square_h{};
  for (int64_t r = 0; r < rows; r++) {
    V a__U_n{};
    V a_n_1{};
    V a_n{};
    V a_h{};
    a_h = load<WHOLE>(carry_h + r * a.w_hidden, n);
    store<WHOLE>(carry_h + r * a.w_hidden, V{}, n);
    if (a.gradient_h) a_h += load<WHOLE>(gradient_h + r * a.w_hidden, n);
    square_h += a_h * a_h;
    const V v1_h = load<WHOLE>(at1_h + r * a.w_hidden, n);
    const V v_n = load<WHOLE>(at_n + r * a.w_hidden, n);
    V a_z{};
    a_z = pulled(a_z, (v1_h - v_n), a_h);
    const V v_z = load<WHOLE>(at_z + r * a.w_hidden, n);
    a_n = pulled(a_n, (set1(real(1.0)) - v_z), a_h);
    V a1_h{};
    a1_h = pulled(a1_h, v_z, a_h);
    a_n_1 = pulled(a_n_1, (set1(real(1.0)) - (v_n * v_n)), a_n);
    V a__W_n{};
    a__W_n = a__W_n + a_n_1;
    a__U_n = a__U_n + a_n_1;
    V a_b_n{};
    a_b_n = a_b_n + a_n_1;
    store<WHOLE>(kept__U_n + r * 1 * a.w_hidden, a__U_n, n);
    add<WHOLE>(to_z + r * a.w_hidden, a_z, n);
    add<WHOLE>(to1_h + r * a.w_hidden, a1_h, n);
    store<WHOLE>(kept__W_n + r * 3 * a.w_hidden, a__W_n, n);
    sum_b_n += a_b_n;
  }
  add<WHOLE>(a.adjointvector_b_n + part.index * a.vectors + u, sum_b_n, n);
  if (a.norms) add_square(a.norms, (part.index * a.T + t) * 1 + 0, square_h);
}
static void backward_1(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    n == LANES ? backward_1_rows<true>(a, part, t, part.first, part.last - part.first, u, n) : backward_1_rows<false>(a, part, t, part.first, part.last - part.first, u, n);
  }
}

static void through_1(const Call& a, const Part& part, int64_t t) {
  // adjoint of _U_n_operand through U_n
  back_all(part, a.scratch__U_n_operand, a.w_hidden, a.adjoint_1 + (a.at[t] - a.start) * 1 * a.w_hidden, 1 * a.w_hidden, a.backpanel_1);
}

static void pack_forward(const Call& a, int thread, int count) {
  pack<2>(a.panel_0, {a.weight_U_r, a.weight_U_z}, a.w_hidden, a.w_hidden, thread, count);
  pack<1>(a.panel_1, {a.weight_U_n}, a.w_hidden, a.w_hidden, thread, count);
}

static void step_forward(const Call& a, int number, const Part& part, int64_t t) {
  switch (number) {
    case 0: forward_0(a, part, t); break;
    case 1: forward_1(a, part, t); break;
  }
}

#ifndef BACKWARD_ALONE
EXPORT void forward(const Call* call) {
  run_forward(*call, 2, pack_forward, step_forward);
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
  pack_back<2>(a.backpanel_0, {a.weight_U_r, a.weight_U_z}, a.w_hidden, a.w_hidden, thread, count);
  pack_back<1>(a.backpanel_1, {a.weight_U_n}, a.w_hidden, a.w_hidden, thread, count);
}

static void step_backward(const Call& a, int number, const Part& part, int64_t t) {
  switch (number) {
    case 0: settle_states(a, part, t); break;
    case 1: backward_1(a, part, t); break;
    case 2: through_1(a, part, t); break;
    case 3: backward_0(a, part, t); break;
    case 4: through_0(a, part, t); break;
  }
}

#ifndef FORWARD_ALONE
EXPORT void backward(const Call* call) {
  run_backward(*call, call->settle ? 0 : 1, 5, pack_backward, step_backward);
}
#endif

