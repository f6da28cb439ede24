// Transitions of NUTS (see `nuts.py`), many in one call. Every chain of a block goes on to its next transition by
// itself, so none waits for another with a deeper tree.
struct NUTSRun {  // mirrored in build.py
  const uint32_t* keys;  // (chain, 2)
  long count, first;     // number of transitions of each chain, and the number of the first
  long depth;            // largest number of doublings
  double limit;          // of the energy error
  S* draws;              // (transition, chain, dim)
  double *value, *energy, *acceptance;  // (transition, chain)
  long *steps, *doublings;
  unsigned char* diverging;
};
enum { DEEPEST = 20, LEAVES = 128 };

struct Lane {
  long chain, transition, depth, leaf, steps;
  double start, weight, part, accepted, chosen, new_chosen;  // energies, and logs of total weights
  bool active, forward;
};
struct End { V *q, *p, *g; };

static bool turning(double left, double right) { return left <= 0 || right <= 0; }

// The velocities at both ends along the sum of the momenta between them (Betancourt 2017).
static void along(const V* left, const V* right, const V* sum, const V* less, const S* inverse_mass, long D, V& a, V& b) {
  a = b = V{};
  for (long d = 0; d < D; d++) {
    V rho = ((less ? sum[d] - less[d] : sum[d]) - (left[d] + right[d]) * (S)0.5) * inverse_mass[d];
    a += left[d] * rho, b += right[d] * rho;
  }
}

extern "C" void nuts(const Program* P, const Trajectory* T, const NUTSRun* R, long begin, long end, long chains, S* q,
                     S* grad, S* value, V* memory) {
  const long D = P->dim;
  const double NONE = -std::numeric_limits<double>::infinity();
  V* next = memory;
  auto room = [&]() { V* here = next; next += D; return here; };
  End now{room(), room(), room()}, left{room(), room(), room()}, right{room(), room(), room()};
  V *sum = room(), *part_sum = room(), *chosen_q = room(), *chosen_g = room(), *new_q = room(), *new_g = room();
  V *memory_p[DEEPEST], *memory_sum[DEEPEST];
  for (long s = 0; s < (R->depth > 1 ? R->depth : 1); s++) memory_p[s] = room(), memory_sum[s] = room();
  V *v = next, *B = v + 1, chosen_v, new_v, epsilon;
  const S* mass = T->inverse_mass;
  for (long block = begin; block < end; block++) {
    const long first = block * W;
    Lane lanes[W];
    load(q, chosen_q, first, chains, D);
    load(grad, chosen_g, first, chains, D);
    load(value, &chosen_v, first, chains, 1);
    M fresh = M{}, doubling = M{};
    long running = 0;
    for (int l = 0; l < W; l++) {
      Lane& a = lanes[l];
      a.active = first + l < chains;
      a.chain = a.active ? first + l : chains - 1;
      a.transition = 0;
      if (a.active) fresh[l] = -1, running++;
    }
    copy(chosen_q, now.q, D), copy(chosen_g, now.g, D), *v = chosen_v;
    for (long d = 0; d < D; d++) now.p[d] = V{};
    epsilon = V{};
    while (running) {
      if (any(fresh)) {  // begin a transition
        for (int l = 0; l < W; l++)
          if (fresh[l]) {
            normals(R->keys + 2 * lanes[l].chain, R->first + lanes[l].transition, (S*)now.p + l, W, D);
            for (long d = 0; d < D; d++) ((S*)now.p)[d * W + l] *= 1 / std::sqrt(mass[d]);
          }
        for (long d = 0; d < D; d++) {
          now.q[d] = fresh ? chosen_q[d] : now.q[d], now.g[d] = fresh ? chosen_g[d] : now.g[d];
          left.q[d] = fresh ? now.q[d] : left.q[d], right.q[d] = fresh ? now.q[d] : right.q[d];
          left.p[d] = fresh ? now.p[d] : left.p[d], right.p[d] = fresh ? now.p[d] : right.p[d];
          left.g[d] = fresh ? now.g[d] : left.g[d], right.g[d] = fresh ? now.g[d] : right.g[d];
          sum[d] = fresh ? now.p[d] : sum[d];
        }
        H h = energy(now.p, chosen_v, mass, D);
        for (int l = 0; l < W; l++)
          if (fresh[l]) {
            Lane& a = lanes[l];
            a.depth = a.steps = 0, a.start = a.chosen = h[l], a.weight = a.accepted = 0;
          }
        doubling |= fresh;
        fresh = M{};
      }
      if (any(doubling)) {  // begin a subtree at one end of the tree
        M forward = M{};
        for (int l = 0; l < W; l++)
          if (doubling[l]) {
            Lane& a = lanes[l];
            a.forward = uniform(R->keys + 2 * a.chain, R->first + a.transition, a.depth) < 0.5;
            if (a.forward) forward[l] = -1;
            a.leaf = 0, a.part = NONE;
            epsilon[l] = a.forward ? T->step[a.chain] : -T->step[a.chain];
          }
        for (long d = 0; d < D; d++) {
          now.q[d] = doubling ? (forward ? right.q[d] : left.q[d]) : now.q[d];
          now.p[d] = doubling ? (forward ? right.p[d] : left.p[d]) : now.p[d];
          now.g[d] = doubling ? (forward ? right.g[d] : left.g[d]) : now.g[d];
          part_sum[d] = doubling ? fill(0) : part_sum[d];
        }
        doubling = M{};
      }
      step_once(P, T, epsilon, now.q, now.p, now.g, v, B);
      H h = energy(now.p, *v, mass, D);
      M take = M{}, good = M{}, whole = M{};
      bool bad[W] = {}, turned[W] = {};
      for (int l = 0; l < W; l++) {
        Lane& a = lanes[l];
        if (!a.active) continue;
        double weight = std::isfinite(h[l]) ? a.start - h[l] : NONE;
        bad[l] = weight < -R->limit;
        a.steps++;
        a.accepted += weight < 0 ? std::exp(weight) : 1;
        if (bad[l]) continue;
        good[l] = -1;
        a.part = log_add(a.part, weight);
        uint32_t index = LEAVES + (1u << a.depth) + a.leaf;
        if (uniform(R->keys + 2 * a.chain, R->first + a.transition, index) < std::exp(weight - a.part))
          take[l] = -1, a.new_chosen = h[l];
      }
      for (long d = 0; d < D; d++) part_sum[d] += good ? now.p[d] : fill(0);
      if (any(take)) {
        for (long d = 0; d < D; d++) new_q[d] = take ? now.q[d] : new_q[d], new_g[d] = take ? now.g[d] : new_g[d];
        new_v = take ? *v : new_v;
      }
      // Leaf 2k is kept in the slot of its complete subtrees to the left; leaf 2k+1 is compared with the first leaves of
      // the subtrees that end there.
      for (long s = 0; s < R->depth; s++) {
        M keep = M{}, compare = M{};
        for (int l = 0; l < W; l++) {
          Lane& a = lanes[l];
          if (!good[l] || !a.depth) continue;
          long slot = __builtin_popcountl(a.leaf >> 1);
          if (a.leaf % 2 == 0) { if (slot == s) keep[l] = -1; }
          else if (s <= slot && s > slot - __builtin_ctzl(~a.leaf)) compare[l] = -1;
        }
        if (any(keep))
          for (long d = 0; d < D; d++) {
            memory_p[s][d] = keep ? now.p[d] : memory_p[s][d];
            memory_sum[s][d] = keep ? part_sum[d] - now.p[d] : memory_sum[s][d];
          }
        if (any(compare)) {
          V one, other;
          along(memory_p[s], now.p, part_sum, memory_sum[s], mass, D, one, other);
          for (int l = 0; l < W; l++) turned[l] |= compare[l] && turning(one[l], other[l]);
        }
      }
      M ended = M{}, ahead = M{}, moved = M{};
      for (int l = 0; l < W; l++) {
        Lane& a = lanes[l];
        if (!a.active) continue;
        a.leaf++;
        if (!bad[l] && !turned[l] && a.leaf < 1L << a.depth) continue;
        ended[l] = -1;
        if (a.forward) ahead[l] = -1;
        if (!bad[l] && !turned[l]) {
          whole[l] = -1;
          double odds = a.part - a.weight;  // to the newer half with probability min(1, its weight / the older one's)
          uint32_t index = LEAVES / 2 + a.depth;
          if (uniform(R->keys + 2 * a.chain, R->first + a.transition, index) < (odds < 0 ? std::exp(odds) : 1))
            moved[l] = -1, a.chosen = a.new_chosen;
        }
        a.depth++;
        a.weight = log_add(a.weight, a.part);
      }
      if (!any(ended)) continue;
      for (long d = 0; d < D; d++) {
        M on = ended & ahead, back = ended & ~ahead;
        right.q[d] = on ? now.q[d] : right.q[d], left.q[d] = back ? now.q[d] : left.q[d];
        right.p[d] = on ? now.p[d] : right.p[d], left.p[d] = back ? now.p[d] : left.p[d];
        right.g[d] = on ? now.g[d] : right.g[d], left.g[d] = back ? now.g[d] : left.g[d];
        sum[d] += ended ? part_sum[d] : fill(0);
        chosen_q[d] = moved ? new_q[d] : chosen_q[d], chosen_g[d] = moved ? new_g[d] : chosen_g[d];
      }
      chosen_v = moved ? new_v : chosen_v;
      V one, other;
      along(left.p, right.p, sum, nullptr, mass, D, one, other);
      for (int l = 0; l < W; l++) {
        if (!ended[l]) continue;
        Lane& a = lanes[l];
        if (whole[l] && !turning(one[l], other[l]) && a.depth < R->depth) {
          doubling[l] = -1;
          continue;
        }
        long at = a.transition * chains + a.chain;
        R->value[at] = (double)chosen_v[l], R->energy[at] = a.chosen;
        R->acceptance[at] = a.accepted / a.steps, R->steps[at] = a.steps, R->doublings[at] = a.depth;
        R->diverging[at] = bad[l];
        if (R->draws)
          for (long d = 0; d < D; d++) R->draws[at * D + d] = chosen_q[d][l];
        if (++a.transition < R->count) fresh[l] = -1;
        else a.active = false, epsilon[l] = 0, running--;
      }
    }
    store(chosen_q, q, first, chains, D);
    store(chosen_g, grad, first, chains, D);
    store(&chosen_v, value, first, chains, 1);
  }
}
