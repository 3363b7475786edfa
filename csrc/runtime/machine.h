// What the machine is: instruction sets, caches, cores.
#ifndef OPDSL_MACHINE_H
#define OPDSL_MACHINE_H

namespace opdsl {

// Cores that this process may use: the affinity mask, limited by the container's CPU quota (rounded up).
int machine_usable_cores();
int machine_online_cores();

// Names of features in the order of `machine_feature_name`; the processor and the operating system both support it.
int machine_feature_count();
const char* machine_feature_name(int feature);
bool machine_has_feature(int feature);
bool machine_has_feature_named(const char* name);

// The best instruction set that generated code can be built for: "amx", "avx512_vnni", "avx512", "avx2", "neon"
// or "baseline".
const char* machine_best_isa();
// Whether this machine runs code built for `isa`. For "amx", asks the operating system for the tile registers.
bool machine_supports_isa(const char* isa);

// Bytes of the data cache of level 1, 2 or 3 (one instance); 0 where unknown.
long machine_cache_bytes(int level);

}  // namespace opdsl
#endif
