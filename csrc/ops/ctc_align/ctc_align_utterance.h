// One utterance: search through its frames, and the path read off backwards.
#pragma once
#include "../ctc/ctc_rows.h"
#include "ctc_align.h"
#include "ctc_align_moves.h"

namespace lisa::LISA_CAPABILITY {

static inline int64_t align_64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Labels that have a place in `targets`.
static inline int64_t room_of(const CtcAlign& p, int64_t n) { return p.target_ends[n] - p.target_offsets[n]; }

// An utterance's pieces of a slot of scratch.
template <typename Real>
struct AlignMemory {
  static constexpr int64_t kPad = kPositionsOfARow;
  int64_t used = 0;
  char* memory;
  Real *row_max, *log_sum, *star_scores;  // [T]
  MoveRow* moves;                         // [T, rows]
  int32_t* classes;                       // [positions], of labels; a star's is 0
  int64_t* stars;                         // [S], positions of the stars
  Real *priors, *logits;                  // [positions], of labels
  double *skips, *blanks[2], *labels[2];  // [positions], of states from position -1 on

  // Null memory: only `used` counts.
  AlignMemory(const CtcAlign& p, int64_t room, char* from) : memory(from) {
    const int64_t positions = align_64(room + 1) + kPad;
    take(row_max, p.frames), take(log_sum, p.frames), take(star_scores, p.has_star ? p.frames : 0);
    take(moves, p.frames * Window::rows(room, p.band));
    take(classes, positions), take(stars, p.has_star ? room : 0), take(priors, positions), take(logits, positions);
    take(skips, positions);
    for (int i = 0; i < 2; ++i) {
      take(blanks[i], positions + kPad), take(labels[i], positions + kPad);
      blanks[i] += kPad, labels[i] += kPad;
    }
  }

 private:
  template <typename T>
  void take(T*& piece, int64_t count) {
    piece = reinterpret_cast<T*>(memory + used);
    used += align_64(count * static_cast<int64_t>(sizeof(T)));
  }
};

template <typename Real, typename In>
class Alignment {
  static constexpr double kImpossible = -__builtin_inf();
  using Memory = AlignMemory<Real>;

  const CtcAlign& p;
  const int64_t n;
  Memory m;
  int64_t T = 0, S = 0;
  int64_t star_count = 0;
  bool faulty;

 public:
  Alignment(const CtcAlign& call, int64_t utterance, char* memory)
      : p(call), n(utterance), m(call, room_of(call, utterance), memory) {
    const int64_t frames = p.logit_lengths[n], labels = p.target_lengths[n];
    faulty = frames < 0 || frames > p.frames || labels < 0 || labels > room_of(p, n);
    if (faulty) return;
    T = frames, S = labels;
  }

  int64_t frames() const { return T; }

  // Statistics of a row; `ahead` is the row that is read next.
  void read_row(int64_t t, Real* buffer) {
    const In* row = row_of(t);
    const RowStatistics<Real> all = row_statistics<Real>(row, row_of(t + 1 < T ? t + 1 : t), p.classes);
    m.row_max[t] = all.max, m.log_sum[t] = all.log_sum;
    if (!p.has_star) return;
    for (int64_t c = 0; c < p.classes; ++c) buffer[c] = to_real(row[c]);
    buffer[p.blank] = -__builtin_inf();
    const RowStatistics<Real> rest = row_statistics<Real>(static_cast<const Real*>(buffer), buffer, p.classes);
    const bool none = rest.max == -__builtin_inf();
    m.star_scores[t] = none ? rest.max : ((rest.max - all.max) + rest.log_sum) - static_cast<Real>(p.star_penalty);
  }

  // Everything else; reads the rows too unless they have been.
  void run(bool rows_were_read, Real* buffer) {
    if (!faulty) read_target();
    const Window window{T, S, p.band};
    const bool has_room = S <= T;
    if (!faulty) begin();
    for (int64_t t = 0; t < T && !faulty; ++t) {
      if (!rows_were_read) read_row(t, buffer);
      faulty = m.log_sum[t] != m.log_sum[t];
      if (has_room && !faulty) step(t, window);
    }
    const double best_label = S > 0 && !faulty && has_room ? m.labels[T % 2][S - 1] : kImpossible;
    const double best_blank = !faulty && has_room ? m.blanks[T % 2][S] : kImpossible;
    const bool found = best_label > kImpossible || best_blank > kImpossible;
    const double total = found ? trace(window, best_label >= best_blank) : faulty ? __builtin_nan("") : kImpossible;
    static_cast<Real*>(p.total)[n] = static_cast<Real>(total);
    for (int64_t t = found ? T : 0; t < p.frames; ++t) write(t, -1, -1, Real(0));
  }

 private:
  const In* row_of(int64_t t) const { return static_cast<const In*>(p.logits) + t * p.stride_t + n * p.stride_n; }
  int64_t label_at(int64_t j) const {
    const int64_t i = p.target_offsets[n] + j;
    return p.targets_are_int32 ? static_cast<const int32_t*>(p.targets)[i] : static_cast<const int64_t*>(p.targets)[i];
  }
  Real prior_of(int64_t c) const { return p.log_priors ? static_cast<const Real*>(p.log_priors)[c] : Real(0); }

  void read_target() {
    const int64_t end = align_64(S + 1) + Memory::kPad;
    for (int64_t j = 0; j < S; ++j) {
      const int64_t label = label_at(j);
      const bool is_star = p.has_star && label == p.star;
      if (is_star) m.stars[star_count++] = j;
      faulty |= !is_star && (label < 0 || label >= p.classes);
      m.classes[j] = is_star || faulty ? 0 : static_cast<int32_t>(label);
      m.priors[j] = prior_of(m.classes[j]);
      m.skips[j] = j > 0 && label != label_at(j - 1) ? 0 : kImpossible;
    }
    for (int64_t j = S; j < end; ++j) m.classes[j] = 0, m.priors[j] = 0, m.skips[j] = kImpossible;
  }

  // Before the first frame: as if in the first blank.
  void begin() {
    const int64_t end = align_64(S + 1) + Memory::kPad;
    for (int i = 0; i < 2; ++i)
      for (int64_t j = -1; j < end; ++j) m.blanks[i][j] = m.labels[i][j] = kImpossible;
    m.blanks[0][0] = 0;
  }

  // From the states before frame t to those after it.
  void step(int64_t t, const Window& window) {
    using Vec = VecOf<double>;
    constexpr int kLanes = Simd<double>::kLanes;
    using Narrow = typename VectorOf<Real, kLanes>::type;
    const int64_t first = window.first(t), last = window.last(t);
    const int64_t origin = window.origin(t), end = last / kPositionsOfARow * kPositionsOfARow + kPositionsOfARow;
    const double *labels = m.labels[t % 2], *blanks = m.blanks[t % 2];
    double *new_labels = m.labels[(t + 1) % 2], *new_blanks = m.blanks[(t + 1) % 2];
    read_labels(t, origin, end);
    const Real max = m.row_max[t];
    const double blank_score = (to_real(row_of(t)[p.blank]) - max) - prior_of(p.blank);
    MoveRow* row = m.moves + t * Window::rows(room_of(p, n), p.band);
    for (int64_t block = origin; block < end; block += kPositionsOfARow, ++row) {
      unsigned onto_label = 0, by_skip = 0, onto_blank = 0;
      for (int i = 0; i < kPositionsOfARow; i += kLanes) {
        const int64_t j = block + i;
        const Vec stay = load(labels + j), advance = load(blanks + j), below = load(labels + j - 1);
        const Vec skip = below + load(m.skips + j);
        const Vec moved = larger(skip, advance);
        // Each only where it is better: staying wins over advancing, and that over skipping.
        onto_label |= bits_of(moved > stay) << i;
        by_skip |= bits_of(skip > advance) << i;
        onto_blank |= bits_of(below > advance) << i;
        const Vec score = __builtin_convertvector(load_vector<Narrow>(m.logits + j), Vec);
        store(new_labels + j, larger(moved, stay) + score);
        store(new_blanks + j, larger(below, advance) + blank_score);
      }
      *row = {static_cast<uint8_t>(onto_label), static_cast<uint8_t>(by_skip), static_cast<uint8_t>(onto_blank)};
    }
    for (int64_t j = origin - 1; j < first; ++j) new_labels[j] = new_blanks[j] = kImpossible;
    for (int64_t j = last + 1; j < end; ++j) new_labels[j] = new_blanks[j] = kImpossible;
  }

  // Search scores of the labels at a frame, in place of their logits.
  void read_labels(int64_t t, int64_t begin, int64_t end) {
    constexpr int kLanes = Simd<Real>::kLanes;
    const In* row = row_of(t);
    for (int64_t j = begin; j < end; ++j) m.logits[j] = to_real(row[m.classes[j]]);
    const Real max = m.row_max[t];
    // Up to a vector beyond the end, which the padding has room for.
    for (int64_t j = begin; j < end; j += kLanes) store(m.logits + j, (load(m.logits + j) - max) - load(m.priors + j));
    for (int64_t i = 0; i < star_count; ++i)
      if (m.stars[i] >= begin && m.stars[i] < end) m.logits[m.stars[i]] = m.star_scores[t];
  }

  // Writes the path and returns the sum of its scores.
  double trace(const Window& window, bool on_label) {
    int64_t j = on_label ? S - 1 : S;
    double total = 0;
    for (int64_t t = T - 1; t >= 0; --t) {
      const double score = score_of(t, j, on_label) - static_cast<double>(m.log_sum[t]);
      total += score;
      write(t, on_label ? label_at(j) : p.blank, on_label ? static_cast<int32_t>(j) : -1, static_cast<Real>(score));
      const int64_t at = j - window.origin(t);
      const MoveRow& row = m.moves[t * Window::rows(room_of(p, n), p.band) + at / kPositionsOfARow];
      const auto is_set = [&](uint8_t bits) { return (bits >> at % kPositionsOfARow & 1) != 0; };
      if (!is_set(on_label ? row.onto_label : row.onto_blank)) continue;
      if (on_label && !is_set(row.by_skip)) {
        on_label = false;
      } else {
        on_label = true;
        --j;
      }
    }
    return total;
  }

  double score_of(int64_t t, int64_t j, bool on_label) const {
    const int64_t label = on_label ? label_at(j) : p.blank;
    if (on_label && p.has_star && label == p.star) return m.star_scores[t];
    return (to_real(row_of(t)[label]) - m.row_max[t]) - prior_of(label);
  }

  void write(int64_t t, int64_t path, int32_t state, Real score) {
    const int64_t i = n * p.frames + t;
    p.paths[i] = path, p.states[i] = state, static_cast<Real*>(p.scores)[i] = score;
  }
};

}  // namespace lisa::LISA_CAPABILITY
