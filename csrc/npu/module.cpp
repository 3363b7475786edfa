// The module `opdsl._npu`: what Python sees of the emulator.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "npu/machine.h"

namespace py = pybind11;
using namespace npu;

namespace {

template <class T>
std::vector<T> vector_of(const py::handle& array) {
  auto typed = py::array_t<T, py::array::c_style | py::array::forcecast>::ensure(array);
  return std::vector<T>(typed.data(), typed.data() + typed.size());
}

Path path_of(const py::dict& paths, const char* name) {
  Path path;
  if (!paths.contains(name)) return path;
  const auto numbers = paths[name].cast<std::vector<double>>();
  path.startup = numbers.at(0);
  path.rate = numbers.at(1);
  path.issue = numbers.at(2);
  return path;
}

Chip chip_of(const py::dict& data) {
  Chip chip;
  const auto number = [&](const char* name) { return data[name].cast<double>(); };
  chip.split = data["split"].cast<bool>();
  chip.clock_mhz = number("clock_mhz");
  chip.vector_cores = data["vector_cores"].cast<int>();
  const py::dict sizes = data["sizes"], paths = data["paths"], vector = data["vector"];
  for (int space = 0; space < SPACES; ++space)
    if (sizes.contains(kSpaceNames[space])) chip.sizes[space] = sizes[kSpaceNames[space]].cast<int64_t>();
#define X(name) chip.name = path_of(paths, #name);
  X(gm_to_l1) X(gm_to_ub) X(gm_to_l0) X(ub_to_gm) X(l0c_to_gm) X(l0c_to_l1) X(l1_to_l0a) X(l1_to_l0b) X(l1_to_bt) X(l1_to_fb)
  X(ub_to_ub) X(ub_to_l1) X(l1_to_ub) X(l0c_to_ub)
#undef X
#define X(name) chip.name = number(#name);
  X(burst_bytes) X(granule_bytes) X(l2_read) X(l2_write) X(hbm) X(l2_miss) X(miss_rate) X(unaligned_rate) X(cube_issue) X(cube_latency) X(cube_f32_factor)
  X(vector_mask_penalty) X(queue_depth) X(scalar_issue) X(scalar_alu) X(scalar_multiply) X(scalar_divide) X(scalar_f32)
  X(scalar_f64) X(scalar_function) X(scalar_ub) X(scalar_gm_hit) X(scalar_gm_l2) X(scalar_gm_hbm) X(scalar_branch) X(flag)
  X(cross_core) X(sync_all) X(launch) X(launch_each) X(finish) X(mixed)
#undef X
  chip.l2_bytes = data["l2_bytes"].cast<int64_t>();
  chip.l2_line = data["l2_line"].cast<int64_t>();
  chip.bank_groups = data["bank_groups"].cast<int>();
  if (chip.queue_depth > kQueue) throw std::invalid_argument("queue_depth is more than " + std::to_string(kQueue));
  int op = 0;
  for (const char* name : {
#define X(name) #name,
           NPU_INSTRUCTIONS(X)
#undef X
       }) {
    if (vector.contains(name)) {
      const auto cost = vector[name].cast<std::vector<double>>();
      chip.vector[Op(op)] = {cost.at(0), cost.at(1), cost.at(2)};
    }
    ++op;
  }
  return chip;
}

Program program_of(const py::dict& data) {
  Program program;
  program.blocks = data["blocks"].cast<int>();
  program.texts = data["texts"].cast<std::vector<std::string>>();
  for (const py::handle item : data["codes"].cast<py::list>()) {
    const auto code = item.cast<py::dict>();
    Code result;
    result.kind = code["kind"].cast<std::string>();
    const auto ops = vector_of<int32_t>(code["ops"]), pipes = vector_of<int32_t>(code["pipes"]);
    const auto locations = vector_of<int32_t>(code["locations"]), starts = vector_of<int32_t>(code["starts"]);
    result.operands = vector_of<int32_t>(code["operands"]);
    for (size_t i = 0; i < ops.size(); ++i) {
      const int32_t end = i + 1 < starts.size() ? starts[i + 1] : int32_t(result.operands.size());
      if (end - starts[i] > kMaxOperands) throw std::invalid_argument("an instruction has too many operands");
      result.words.push_back({Op(ops[i]), uint8_t(pipes[i]), uint8_t(end - starts[i]), locations[i], starts[i]});
    }
    for (const int64_t bits : vector_of<int64_t>(code["slots"])) {
      Slot slot;
      slot.i = bits;
      result.slots.push_back(slot);
    }
    std::vector<ParameterSlot> parameters;
    for (const py::handle given : code["parameters"].cast<py::list>()) {
      const auto tuple = given.cast<py::tuple>();
      ParameterSlot parameter;
      parameter.kind = tuple[0].cast<std::string>();
      parameter.slot = tuple[1].cast<int32_t>();
      parameter.tensor = tuple[2].cast<int32_t>();
      parameter.axis = tuple[3].cast<int32_t>();
      parameter.value.i = tuple[4].cast<int64_t>();
      parameters.push_back(parameter);
    }
    program.parameters.push_back(std::move(parameters));
    program.codes.push_back(std::move(result));
  }
  for (const py::handle item : data["tensors"].cast<py::list>()) {
    const auto given = item.cast<py::dict>();
    TensorInfo tensor;
    tensor.name = given["name"].cast<std::string>();
    tensor.data = reinterpret_cast<uint8_t*>(given["data"].cast<uint64_t>());
    tensor.low = given["low"].cast<int64_t>();
    tensor.high = given["high"].cast<int64_t>();
    tensor.shape = given["shape"].cast<std::vector<int64_t>>();
    tensor.strides = given["strides"].cast<std::vector<int64_t>>();
    tensor.workspace = given["workspace"].cast<bool>();
    tensor.written = given["written"].cast<bool>();
    program.tensors.push_back(std::move(tensor));
  }
  return program;
}

py::dict report_of(const Report& report) {
  py::dict result;
  result["kind"] = report.kind;
  result["message"] = report.message;
  result["core"] = report.core;
  result["location"] = report.location;
  result["pipe"] = report.pipe < 0 ? "" : kPipeNames[report.pipe];
  result["other_core"] = report.other_core;
  result["other_location"] = report.other_location;
  result["other_pipe"] = report.other_pipe < 0 ? "" : kPipeNames[report.other_pipe];
  result["count"] = report.count;
  return result;
}

py::list stalls_of(const double* stalls) {
  py::list list;
  for (int i = 0; i < int(Stall::count); ++i) list.append(stalls[i]);
  return list;
}

py::dict run(const py::dict& chip_data, const py::dict& program_data, const py::dict& settings) {
  const Chip chip = chip_of(chip_data);
  Program program = program_of(program_data);
  Options options;
  options.values = settings["values"].cast<bool>();
  options.hazards = settings["hazards"].cast<bool>();
  options.trace = settings["trace"].cast<bool>();
  options.warm = settings["warm"].cast<bool>();
  options.drained = settings["drained"].cast<bool>();
  options.seed = settings["seed"].cast<uint64_t>();
  options.max_reports = settings["max_reports"].cast<int>();
  const int locations = program_data["locations"].cast<int>();
  py::dict result;
  std::unique_ptr<Machine> machine;
  Report fault;
  {
    const py::gil_scoped_release no_gil;
    machine = std::make_unique<Machine>(chip, program, options, locations);
    try {
      machine->run();
    } catch (const Fault& error) {
      fault = machine->where();
      fault.kind = error.kind;
      fault.message = error.what();
    }
  }
  if (fault.core >= 0) result["fault"] = report_of(fault);
  result["cycles"] = machine->cycles;
  py::list reports, cores, places;
  for (const Report& report : machine->reports) reports.append(report_of(report));
  for (const auto& core : machine->cores) {
    py::dict one;
    one["kind"] = core->code->kind;
    one["block"] = core->block;
    one["sub"] = core->sub;
    one["scalar_end"] = core->time;
    one["bank_conflicts"] = core->bank_conflicts;
    py::dict pipes;
    for (int pipe = 0; pipe < PIPES; ++pipe) {
      const PipeState& state = core->pipes[pipe];
      if (!state.statistics.instructions) continue;
      py::dict each;
      each["busy"] = state.statistics.busy;
      each["instructions"] = state.statistics.instructions;
      each["first"] = state.statistics.first;
      each["end"] = state.finish;
      each["stalls"] = stalls_of(state.statistics.stalls);
      pipes[kPipeNames[pipe]] = each;
    }
    one["pipes"] = pipes;
    cores.append(one);
  }
  for (int pipe = 0; pipe < PIPES; ++pipe)
    for (size_t location = 0; location < machine->places[pipe].size(); ++location) {
      const PlaceStatistics& place = machine->places[pipe][location];
      bool any = place.count > 0;
      for (const double stall : place.stalls) any |= stall > 0;
      if (!any) continue;
      py::dict one;
      one["pipe"] = kPipeNames[pipe];
      one["location"] = location;
      one["count"] = place.count;
      one["bytes"] = place.bytes;
      one["busy"] = place.busy;
      one["conflicts"] = place.conflicts;
      one["stalls"] = stalls_of(place.stalls);
      places.append(one);
    }
  result["reports"] = reports;
  result["cores"] = cores;
  result["places"] = places;
  result["printed"] = machine->printed;
  result["l2_hits"] = machine->l2_hits;
  result["l2_misses"] = machine->l2_misses;
  result["l2_written_back"] = machine->l2_written_back;
  result["read_bytes"] = machine->read_bytes;
  result["written_bytes"] = machine->written_bytes;
  result["memory_busy"] = machine->memory_busy;
  result["memory_saturated"] = machine->memory_saturated;
  result["instructions"] = machine->instructions;
  result["scalar_operations"] = machine->scalar_operations;
  result["macs"] = machine->macs;
  result["vector_elements"] = machine->vector_elements;
  if (options.trace) {
    const auto count = py::ssize_t(machine->events.size());
    py::array_t<int32_t> words({count, py::ssize_t(4)});
    py::array_t<double> times({count, py::ssize_t(3)});
    auto w = words.mutable_unchecked<2>();
    auto t = times.mutable_unchecked<2>();
    for (py::ssize_t i = 0; i < count; ++i) {
      const Event& event = machine->events[size_t(i)];
      w(i, 0) = event.core;
      w(i, 1) = event.pipe;
      w(i, 2) = int32_t(event.op);
      w(i, 3) = event.location;
      t(i, 0) = event.start;
      t(i, 1) = event.end;
      t(i, 2) = double(event.bytes);
    }
    result["event_words"] = words;
    result["event_times"] = times;
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_npu, module) {
  module.doc() = "The emulator of the NPU.";
#define X(name) #name,
  module.attr("INSTRUCTIONS") = std::vector<std::string>{NPU_INSTRUCTIONS(X) NPU_CONTROL(X)};
  module.attr("INTEGER_OPS") = std::vector<std::string>{NPU_INTEGER_OPS(X)};
  module.attr("FLOAT_OPS") = std::vector<std::string>{NPU_FLOAT_OPS(X)};
  module.attr("CONVERSIONS") = std::vector<std::string>{NPU_CONVERSIONS(X)};
#undef X
  module.attr("DTYPES") = std::vector<std::string>(kDTypeNames, kDTypeNames + DTYPES);
  module.attr("PIPES") = std::vector<std::string>(kPipeNames, kPipeNames + PIPES + 1);
  module.attr("SPACES") = std::vector<std::string>(kSpaceNames, kSpaceNames + SPACES);
  module.attr("STALLS") = std::vector<std::string>(kStallNames, kStallNames + int(Stall::count));
  module.attr("FIRST_TENSOR") = int(GM);
  module.def("run", &run, py::arg("chip"), py::arg("program"), py::arg("settings"));
}
