typedef float real;
#define SINGLE 1
#define VECTOR 64
#include "runtime.h"

struct Call {
  real* vector_b_i;  // vector b_i
  real* vector_bh_i;  // vector bh_i
  real* vector_b_f;  // vector b_f
  real* vector_bh_f;  // vector bh_f
  real* vector_b_g;  // vector b_g
  real* vector_bh_g;  // vector bh_g
  real* vector_b_o;  // vector b_o
  real* vector_bh_o;  // vector bh_o
  real* stream_0;  // stream 0
  real* saved_i;  // saved i
  real* saved_f;  // saved f
  real* saved_g;  // saved g
  real* saved_o;  // saved o
  real* state_c;  // state c
  real* saved_h_1;  // saved h_1
  real* state_h;  // state h
  real* panel_0;  // panel 0
  real* carry_c;  // carry c
  real* gradient_c;  // gradient c
  real* carry_h;  // carry h
  real* gradient_h;  // gradient h
  real* adjoint_0;  // adjoint 0
  real* adjointvector_b_o;  // adjoint vector b_o
  real* adjointvector_b_g;  // adjoint vector b_g
  real* adjointvector_b_f;  // adjoint vector b_f
  real* adjointvector_b_i;  // adjoint vector b_i
  real* norms;  // norms
  real* backpanel_0;  // back panel 0
  real* weight_U_i;  // weight U_i
  real* weight_U_f;  // weight U_f
  real* weight_U_g;  // weight U_g
  real* weight_U_o;  // weight U_o
  real* given_h;  // given h
  real* cameof_h;  // came of h
  real* adjointof_h;  // adjoint of h
  real* given_c;  // given c
  real* cameof_c;  // came of c
  real* adjointof_c;  // adjoint of c
  real* clip;  // clip
  const int64_t* rows;
  const int64_t* at;
  const int64_t* kept_at;
  const int64_t* at_h;
  const int64_t* at_c;
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

// phase 0: _U_i, _U_f, _U_g, _U_o, i_1, i, f_1, f, g_1, g, o_1, o, c[t], h_1, h[t]
template <bool WHOLE>
static void forward_0_rows(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t rows, int64_t u,
    int64_t n, const V* p0) {
  real* const at__W_i = a.stream_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 0 * a.w_hidden + u;
  real* const at_i = a.saved_i + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at__W_f = a.stream_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 1 * a.w_hidden + u;
  real* const at_f = a.saved_f + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at__W_g = a.stream_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 2 * a.w_hidden + u;
  real* const at_g = a.saved_g + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at__W_o = a.stream_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 3 * a.w_hidden + u;
  real* const at_o = a.saved_o + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at1_c = a.state_c + a.at_c[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_c = a.state_c + a.at_c[t + 1] * a.w_hidden + b * a.w_hidden + u;
  real* const at_h_1 = a.saved_h_1 + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_h = a.state_h + a.at_h[t + 1] * a.w_hidden + b * a.w_hidden + u;
  const V v_b_i = load<WHOLE>(a.vector_b_i + u, n);
  const V v_bh_i = load<WHOLE>(a.vector_bh_i + u, n);
  const V v_b_f = load<WHOLE>(a.vector_b_f + u, n);
  const V v_bh_f = load<WHOLE>(a.vector_bh_f + u, n);
  const V v_b_g = load<WHOLE>(a.vector_b_g + u, n);
  const V v_bh_g = load<WHOLE>(a.vector_bh_g + u, n);
  const V v_b_o = load<WHOLE>(a.vector_b_o + u, n);
  const V v_bh_o = load<WHOLE>(a.vector_bh_o + u, n);
  for (int64_t r = 0; r < rows; r++) {
    const V v__U_i = p0[r * 4];
    const V v__U_f = p0[r * 4 + 1];
    const V v__U_g = p0[r * 4 + 2];
    const V v__U_o = p0[r * 4 + 3];
    const V v__W_i = load<WHOLE>(at__W_i + r * 4 * a.w_hidden, n);
    const V v_i_1 = (((v__W_i + v_b_i) + v__U_i) + v_bh_i);
    const V v_i = sigmoid_(v_i_1);
    if (a.saved_i) store<WHOLE>(at_i + r * a.w_hidden, v_i, n);
    const V v__W_f = load<WHOLE>(at__W_f + r * 4 * a.w_hidden, n);
    const V v_f_1 = (((v__W_f + v_b_f) + v__U_f) + v_bh_f);
    const V v_f = sigmoid_(v_f_1);
    if (a.saved_f) store<WHOLE>(at_f + r * a.w_hidden, v_f, n);
    const V v__W_g = load<WHOLE>(at__W_g + r * 4 * a.w_hidden, n);
    const V v_g_1 = (((v__W_g + v_b_g) + v__U_g) + v_bh_g);
    const V v_g = tanh_(v_g_1);
    if (a.saved_g) store<WHOLE>(at_g + r * a.w_hidden, v_g, n);
    const V v__W_o = load<WHOLE>(at__W_o + r * 4 * a.w_hidden, n);
    const V v_o_1 = (((v__W_o + v_b_o) + v__U_o) + v_bh_o);
    const V v_o = sigmoid_(v_o_1);
    if (a.saved_o) store<WHOLE>(at_o + r * a.w_hidden, v_o, n);
    const V v1_c = load<WHOLE>(at1_c + r * a.w_hidden, n);
    const V v_c = ((v_f * v1_c) + (v_i * v_g));
    store<WHOLE>(at_c + r * a.w_hidden, v_c, n);
    const V v_h_1 = tanh_(v_c);
    if (a.saved_h_1) store<WHOLE>(at_h_1 + r * a.w_hidden, v_h_1, n);
    const V v_h = (v_o * v_h_1);
    store<WHOLE>(at_h + r * a.w_hidden, v_h, n);
  }
}
template <int R>
static void forward_0_block(
    const Call& a, const Part& part, int64_t t, int64_t b, int64_t u, int64_t n) {
  V p0[R][4] = {};
  // U_i, U_f, U_g, U_o @ h[t-1]
  product<R, 4>(p0, a.state_h + a.at_h[t] * a.w_hidden + b * a.w_hidden, a.w_hidden, a.panel_0 + u * 4 * a.w_hidden, a.w_hidden);
  n == LANES ? forward_0_rows<true>(a, part, t, b, R, u, n, p0[0]) : forward_0_rows<false>(a, part, t, b, R, u, n, p0[0]);
}
static void forward_0(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    int64_t b = part.first;
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
  real* const carry_c = a.carry_c + t % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  real* const gradient_c = a.gradient_c + a.at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const carry_h = a.carry_h + t % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  real* const gradient_h = a.gradient_h + a.at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_h_1 = a.saved_h_1 + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_o = a.saved_o + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at1_c = a.state_c + a.at_c[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_f = a.saved_f + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_g = a.saved_g + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const at_i = a.saved_i + a.kept_at[t] * a.w_hidden + b * a.w_hidden + u;
  real* const kept__U_i = a.adjoint_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 0 * a.w_hidden + u;
  real* const kept__U_f = a.adjoint_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 1 * a.w_hidden + u;
  real* const kept__U_g = a.adjoint_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 2 * a.w_hidden + u;
  real* const kept__U_o = a.adjoint_0 + (a.at[t] - a.start) * 4 * a.w_hidden + b * 4 * a.w_hidden + 3 * a.w_hidden + u;
  real* const to1_c = a.carry_c + (t + 1) % 2 * a.B * a.w_hidden + b * a.w_hidden + u;
  V sum_b_o{};
  V sum_b_g{};
  V sum_b_f{};
  V sum_b_i{};
  V square_c{};
  V square_h{};
  for (int64_t r = 0; r < rows; r++) {
    V a__U_i{};
    V a__U_f{};
    V a__U_g{};
    V a__U_o{};
    V a_i_1{};
    V a_i{};
    V a_f_1{};
    V a_f{};
    V a_g_1{};
    V a_g{};
    V a_o_1{};
    V a_o{};
    V a_c{};
    a_c = load<WHOLE>(carry_c + r * a.w_hidden, n);
    store<WHOLE>(carry_c + r * a.w_hidden, V{}, n);
    if (a.gradient_c) a_c += load<WHOLE>(gradient_c + r * a.w_hidden, n);
    square_c += a_c * a_c;
    V a_h_1{};
    V a_h{};
    a_h = load<WHOLE>(carry_h + r * a.w_hidden, n);
    store<WHOLE>(carry_h + r * a.w_hidden, V{}, n);
    if (a.gradient_h) a_h += load<WHOLE>(gradient_h + r * a.w_hidden, n);
    square_h += a_h * a_h;
    const V v_h_1 = load<WHOLE>(at_h_1 + r * a.w_hidden, n);
    a_o = pulled(a_o, v_h_1, a_h);
    const V v_o = load<WHOLE>(at_o + r * a.w_hidden, n);
    a_h_1 = pulled(a_h_1, v_o, a_h);
    a_c = pulled(a_c, (set1(real(1.0)) - (v_h_1 * v_h_1)), a_h_1);
    const V v1_c = load<WHOLE>(at1_c + r * a.w_hidden, n);
    a_f = pulled(a_f, v1_c, a_c);
    const V v_f = load<WHOLE>(at_f + r * a.w_hidden, n);
    V a1_c{};
    a1_c = pulled(a1_c, v_f, a_c);
    const V v_g = load<WHOLE>(at_g + r * a.w_hidden, n);
    a_i = pulled(a_i, v_g, a_c);
    const V v_i = load<WHOLE>(at_i + r * a.w_hidden, n);
    a_g = pulled(a_g, v_i, a_c);
    a_o_1 = pulled(a_o_1, (v_o * (set1(real(1.0)) - v_o)), a_o);
    V a__W_o{};
    a__W_o = a__W_o + a_o_1;
    V a_b_o{};
    a_b_o = a_b_o + a_o_1;
    a__U_o = a__U_o + a_o_1;
    V a_bh_o{};
    a_bh_o = a_bh_o + a_o_1;
    a_g_1 = pulled(a_g_1, (set1(real(1.0)) - (v_g * v_g)), a_g);
    V a__W_g{};
    a__W_g = a__W_g + a_g_1;
    V a_b_g{};
    a_b_g = a_b_g + a_g_1;
    a__U_g = a__U_g + a_g_1;
    V a_bh_g{};
    a_bh_g = a_bh_g + a_g_1;
    a_f_1 = pulled(a_f_1, (v_f * (set1(real(1.0)) - v_f)), a_f);
    V a__W_f{};
    a__W_f = a__W_f + a_f_1;
    V a_b_f{};
    a_b_f = a_b_f + a_f_1;
    a__U_f = a__U_f + a_f_1;
    V a_bh_f{};
    a_bh_f = a_bh_f + a_f_1;
    a_i_1 = pulled(a_i_1, (v_i * (set1(real(1.0)) - v_i)), a_i);
    V a__W_i{};
    a__W_i = a__W_i + a_i_1;
    V a_b_i{};
    a_b_i = a_b_i + a_i_1;
    a__U_i = a__U_i + a_i_1;
    V a_bh_i{};
    a_bh_i = a_bh_i + a_i_1;
    store<WHOLE>(kept__U_i + r * 4 * a.w_hidden, a__U_i, n);
    store<WHOLE>(kept__U_f + r * 4 * a.w_hidden, a__U_f, n);
    store<WHOLE>(kept__U_g + r * 4 * a.w_hidden, a__U_g, n);
    store<WHOLE>(kept__U_o + r * 4 * a.w_hidden, a__U_o, n);
    add<WHOLE>(to1_c + r * a.w_hidden, a1_c, n);
    sum_b_o += a_b_o;
    sum_b_g += a_b_g;
    sum_b_f += a_b_f;
    sum_b_i += a_b_i;
  }
  add<WHOLE>(a.adjointvector_b_o + part.index * a.vectors + u, sum_b_o, n);
  add<WHOLE>(a.adjointvector_b_g + part.index * a.vectors + u, sum_b_g, n);
  add<WHOLE>(a.adjointvector_b_f + part.index * a.vectors + u, sum_b_f, n);
  add<WHOLE>(a.adjointvector_b_i + part.index * a.vectors + u, sum_b_i, n);
  if (a.norms) add_square(a.norms, (part.index * a.T + t) * 2 + 1, square_c);
  if (a.norms) add_square(a.norms, (part.index * a.T + t) * 2 + 0, square_h);
}
static void backward_0(const Call& a, const Part& part, int64_t t) {
  const int64_t width = a.w_hidden;
  for (int64_t u = part.from(width); u < part.to(width); u += LANES) {
    const int64_t n = width - u < LANES ? width - u : LANES;
    n == LANES ? backward_0_rows<true>(a, part, t, part.first, part.last - part.first, u, n) : backward_0_rows<false>(a, part, t, part.first, part.last - part.first, u, n);
  }
}

static void through_0(const Call& a, const Part& part, int64_t t) {
  // adjoint of h[t-1] through U_i, U_f, U_g, U_o
  back_all(part, a.carry_h + (t + 1) % 2 * a.B * a.w_hidden, a.w_hidden, a.adjoint_0 + (a.at[t] - a.start) * 4 * a.w_hidden, 4 * a.w_hidden, a.backpanel_0);
}

static void pack_forward(const Call& a, int thread, int count) {
  pack<4>(a.panel_0, {a.weight_U_i, a.weight_U_f, a.weight_U_g, a.weight_U_o}, a.w_hidden, a.w_hidden, thread, count);
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
      {a.carry_c + t % 2 * a.B * a.w_hidden + b * a.w_hidden, a.given_c ? a.given_c + a.at[t] * a.w_hidden + b * a.w_hidden : nullptr, a.cameof_c ? a.cameof_c + a.at[t] * a.w_hidden + b * a.w_hidden : nullptr, a.adjointof_c ? a.adjointof_c + a.at[t] * a.w_hidden + b * a.w_hidden : nullptr, a.w_hidden},
    };
    settle_row(states, a.clip, part.index);
  }
}

static void pack_backward(const Call& a, int thread, int count) {
  pack_back<4>(a.backpanel_0, {a.weight_U_i, a.weight_U_f, a.weight_U_g, a.weight_U_o}, a.w_hidden, a.w_hidden, thread, count);
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

