// The module `opdsl._npu_order`: which flags and barriers a compiled kernel for the NPU can do without.
//
// opdsl/targets/npu/prune.py runs a program in the mind and notes what happens: instructions with what must be done before
// them, sets, waits, barriers. Here clocks go along these steps, again and again with more flags left out.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;

namespace {

enum Kind { kInstruction, kSet, kWait, kBarrier };

struct Step {
  int32_t kind, agent, flag, slot, waiting;
  int32_t first_need, last_need;
};

struct Need {
  int32_t agent, number;  // so many instructions of the agent must be done
};

using Array = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

class Run {
 public:
  Run(const Array& steps, const Array& needs, int agents, int flags) {
    if (steps.ndim() != 2 || steps.shape(1) != 5 || needs.ndim() != 2 || needs.shape(1) != 3)
      throw std::invalid_argument("steps have 5 columns, needs 3");
    const auto s = steps.unchecked<2>();
    const auto n = needs.unchecked<2>();
    const auto within = [](int32_t value, int32_t low, int32_t high) {
      if (value < low || value >= high) throw std::invalid_argument("a step names what there is not");
      return value;
    };
    int32_t need = 0;
    const auto count = int32_t(n.shape(0));
    for (py::ssize_t i = 0; i < s.shape(0); ++i) {
      Step step{within(s(i, 0), 0, 4), within(s(i, 1), 0, agents), within(s(i, 2), 0, flags), within(s(i, 3), 0, 1 << 16),
                s(i, 4), need, need};
      if (step.kind == kWait) within(step.waiting, 0, agents);
      for (; need < count && n(need, 0) == i; ++need) needs_.push_back({within(n(need, 1), 0, agents), n(need, 2)});
      step.last_need = need;
      slots_ = std::max(slots_, step.slot + 1);
      sets_ += step.kind == kSet;
      steps_.push_back(step);
    }
    if (need != count) throw std::invalid_argument("needs must come in the order of their steps");
  }

  // Whether everything that must be done before an instruction is known to be, without the missing flags.
  bool holds(const std::vector<int32_t>& scalars, const std::vector<char>& missing) const {
    const size_t agents = scalars.size();
    std::vector<int32_t> clocks(agents * agents), done(agents), learned(agents), joined(agents);
    std::vector<int32_t> messages;
    messages.reserve(sets_ * agents);
    // Of each flag and slot a queue of messages: the first and last set, and what follows each.
    std::vector<int32_t> heads(missing.size() * size_t(slots_), -1), tails(heads.size(), -1), next;
    next.reserve(sets_);
    for (const Step& step : steps_) {
      if (missing[size_t(step.flag)]) continue;
      const auto agent = size_t(step.agent), scalar = size_t(scalars[agent]);
      int32_t* clock = &clocks[agent * agents];
      if (scalar != agent && joined[agent] != learned[scalar]) {
        joined[agent] = learned[scalar];
        const int32_t own = clock[scalar];
        const int32_t* above = &clocks[scalar * agents];
        for (size_t i = 0; i < agents; ++i) clock[i] = std::max(clock[i], above[i]);
        clock[scalar] = own;  // what the scalar unit itself does is not ordered by handing over
      }
      const size_t queue = size_t(step.flag) * size_t(slots_) + size_t(step.slot);
      switch (step.kind) {
        case kInstruction:
          for (int32_t i = step.first_need; i < step.last_need; ++i)
            if (clock[needs_[size_t(i)].agent] < needs_[size_t(i)].number) return false;
          ++done[agent];
          break;
        case kSet: {
          const auto message = int32_t(next.size());
          messages.insert(messages.end(), clock, clock + agents);
          messages[size_t(message) * agents + agent] = done[agent];
          next.push_back(-1);
          if (heads[queue] < 0) heads[queue] = message;
          else next[size_t(tails[queue])] = message;
          tails[queue] = message;
          break;
        }
        case kBarrier:
          clock[agent] = done[agent];
          break;
        default: {
          const int32_t message = heads[queue];
          if (message < 0) return false;
          heads[queue] = next[size_t(message)];
          const auto waiting = size_t(step.waiting);
          int32_t* target = &clocks[waiting * agents];
          const int32_t* told = &messages[size_t(message) * agents];
          for (size_t i = 0; i < agents; ++i) target[i] = std::max(target[i], told[i]);
          if (size_t(scalars[waiting]) == waiting) ++learned[waiting];
        }
      }
    }
    return true;
  }

 private:
  std::vector<Step> steps_;
  std::vector<Need> needs_;
  int32_t slots_ = 1;
  size_t sets_ = 0;
};

class Runs {
 public:
  Runs(std::vector<int32_t> scalars, int flags) : scalars_(std::move(scalars)), flags_(flags) {
    for (const int32_t scalar : scalars_)
      if (scalar < 0 || size_t(scalar) >= scalars_.size()) throw std::invalid_argument("an agent's scalar unit is none of the agents");
    if (flags < 1) throw std::invalid_argument("flag 0 stands for none");
  }

  void add(const Array& steps, const Array& needs) { runs_.emplace_back(steps, needs, int(scalars_.size()), flags_); }

  bool holds(size_t run) const { return runs_.at(run).holds(scalars_, std::vector<char>(size_t(flags_))); }

  // Those of the flags, taken in order, that can be left out together with those before.
  std::vector<int32_t> superfluous(const std::vector<int32_t>& candidates) const {
    std::vector<size_t> order(runs_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::vector<char> missing(size_t(flags_), 0);
    std::vector<int32_t> found;
    const py::gil_scoped_release no_gil;
    for (const int32_t flag : candidates) {
      missing.at(size_t(flag)) = 1;
      bool needed = false;
      for (size_t i = 0; i < order.size() && !needed; ++i) {
        if (runs_[order[i]].holds(scalars_, missing)) continue;
        needed = true;
        // What shows that one is needed may show it of the next one, too.
        std::rotate(order.begin(), order.begin() + std::ptrdiff_t(i), order.begin() + std::ptrdiff_t(i) + 1);
      }
      if (needed) missing[size_t(flag)] = 0;
      else found.push_back(flag);
    }
    return found;
  }

 private:
  std::vector<int32_t> scalars_;
  int flags_;
  std::vector<Run> runs_;
};

}  // namespace

PYBIND11_MODULE(_npu_order, module) {
  module.doc() = "Which flags and barriers of a program for the NPU are needed.";
  py::class_<Runs>(module, "Runs")
      .def(py::init<std::vector<int32_t>, int>(), py::arg("scalars"), py::arg("flags"))
      .def("add", &Runs::add, py::arg("steps"), py::arg("needs"))
      .def("holds", &Runs::holds, py::arg("run"))
      .def("superfluous", &Runs::superfluous, py::arg("candidates"));
}
