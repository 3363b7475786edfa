#include "runtime/machine.h"

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#endif

// No C++ library symbols here: this file is also compiled into libraries that C programs link.

namespace opdsl {
namespace {

// Where CPUID says that a feature is there, and which register state the operating system must save for it.
struct Feature {
  const char* name;
  unsigned leaf;
  unsigned subleaf;
  char reg;
  int bit;
  unsigned state;  // bits of XCR0
};

#if defined(__x86_64__)
constexpr unsigned kAvxState = 0x6;
constexpr unsigned kAvx512State = 0xe6;
constexpr unsigned kAmxState = 0x60000;
constexpr Feature kFeatures[] = {
    {"avx", 1, 0, 'c', 28, kAvxState},
    {"avx2", 7, 0, 'b', 5, kAvxState},
    {"fma", 1, 0, 'c', 12, kAvxState},
    {"f16c", 1, 0, 'c', 29, kAvxState},
    {"bmi2", 7, 0, 'b', 8, 0},
    {"avxvnni", 7, 1, 'a', 4, kAvxState},
    {"avx512f", 7, 0, 'b', 16, kAvx512State},
    {"avx512bw", 7, 0, 'b', 30, kAvx512State},
    {"avx512dq", 7, 0, 'b', 17, kAvx512State},
    {"avx512vl", 7, 0, 'b', 31, kAvx512State},
    {"avx512cd", 7, 0, 'b', 28, kAvx512State},
    {"avx512vnni", 7, 0, 'c', 11, kAvx512State},
    {"avx512vbmi", 7, 0, 'c', 1, kAvx512State},
    {"avx512bf16", 7, 1, 'a', 5, kAvx512State},
    {"avx512fp16", 7, 0, 'd', 23, kAvx512State},
    {"amx_tile", 7, 0, 'd', 24, kAmxState},
    {"amx_int8", 7, 0, 'd', 25, kAmxState},
    {"amx_bf16", 7, 0, 'd', 22, kAmxState},
};

unsigned saved_states() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 27)) == 0) return 0;  // no XSAVE: only SSE
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool detect(const Feature& feature) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(feature.leaf, feature.subleaf, &a, &b, &c, &d)) return false;
  const unsigned value = feature.reg == 'a' ? a : feature.reg == 'b' ? b : feature.reg == 'c' ? c : d;
  return (value >> feature.bit & 1) != 0 && (saved_states() & feature.state) == feature.state;
}
#elif defined(__aarch64__)
constexpr Feature kFeatures[] = {{"neon", 0, 0, 0, 0, 0}};
bool detect(const Feature&) { return true; }
#else
constexpr Feature kFeatures[] = {{"none", 0, 0, 0, 0, 0}};
bool detect(const Feature&) { return false; }
#endif

constexpr int kFeatureCount = static_cast<int>(sizeof(kFeatures) / sizeof(kFeatures[0]));

// Read once: in a virtual machine CPUID traps, and all features together take 0.3 ms.
bool has(int feature) {
  static signed char known[kFeatureCount];  // 0: not read yet; plain, as nothing of the C++ library is linked
  signed char found = __atomic_load_n(&known[feature], __ATOMIC_RELAXED);
  if (found == 0) {
    found = detect(kFeatures[feature]) ? 1 : -1;
    __atomic_store_n(&known[feature], found, __ATOMIC_RELAXED);
  }
  return found > 0;
}

struct IsaRequirement {
  const char* isa;
  const char* features[14];
};
// Best first.
constexpr IsaRequirement kIsas[] = {
#if defined(__x86_64__)
    {"amx",
     {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512vnni", "fma", "f16c", "bmi2",
      "avx512bf16", "amx_tile", "amx_int8", "amx_bf16"}},
    {"avx512_vnni", {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512vnni", "fma", "f16c", "bmi2"}},
    {"avx512", {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "fma", "f16c", "bmi2"}},
    {"avx2", {"avx2", "fma", "f16c", "bmi2"}},
#elif defined(__aarch64__)
    {"neon", {"neon"}},
#endif
    {"baseline", {}},
};

// Linux lets a process use the tile registers only after it has asked for them: arch_prctl(ARCH_REQ_XCOMP_PERM,
// XTILEDATA). Threads made later inherit the permission.
bool tiles_permitted() {
#if defined(__linux__) && defined(__x86_64__)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}

// The quota of the control group in cores, rounded up; 0 where there is none.
int quota_cores() {
  FILE* file = fopen("/sys/fs/cgroup/cpu.max", "re");
  if (file == nullptr) return 0;
  char quota[32] = "";
  long long period = 0;
  const int fields = fscanf(file, "%31s %lld", quota, &period);
  fclose(file);
  if (fields != 2 || period <= 0 || strcmp(quota, "max") == 0) return 0;
  return static_cast<int>((atoll(quota) + period - 1) / period);
}

}  // namespace

int machine_online_cores() {
  const long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : static_cast<int>(count);
}

int machine_usable_cores() {
  int cores = machine_online_cores();
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  const int quota = quota_cores();
  if (quota > 0 && quota < cores) cores = quota;
#endif
  return cores < 1 ? 1 : cores;
}

int machine_feature_count() { return kFeatureCount; }
const char* machine_feature_name(int feature) { return kFeatures[feature].name; }
bool machine_has_feature(int feature) { return has(feature); }

bool machine_has_feature_named(const char* name) {
  for (int i = 0; i < kFeatureCount; ++i)
    if (strcmp(kFeatures[i].name, name) == 0) return has(i);
  return false;
}

bool machine_supports_isa(const char* isa) {
  for (const IsaRequirement& requirement : kIsas) {
    if (strcmp(requirement.isa, isa) != 0) continue;
    for (const char* feature : requirement.features)
      if (feature != nullptr && !machine_has_feature_named(feature)) return false;
    return strcmp(isa, "amx") != 0 || tiles_permitted();
  }
  return false;
}

const char* machine_best_isa() {
  for (const IsaRequirement& requirement : kIsas)
    if (machine_supports_isa(requirement.isa)) return requirement.isa;
  return "baseline";
}

long machine_cache_bytes(int level) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
  if (level < 1 || level > 3) return 0;
  const long bytes = sysconf(names[level - 1]);
  return bytes > 0 ? bytes : 0;
#else
  (void)level;
  return 0;
#endif
}

}  // namespace opdsl
