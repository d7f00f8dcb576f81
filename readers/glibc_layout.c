#include "readers/glibc_layout.h"

#define SMALL_CACHE_BINS 64
#define ALL_CACHE_BINS 76

static const struct glibc_layout layouts[] = {
	{ .first = 243, .last = 243, .bins = 24, .from_bins_system = 2072, .state_bytes = 2112,
	  .params_bytes = 144, .huge_page = 48, .mapped_count = 68, .mapped_bytes = 88,
	  .break_begin = 104, .heap_header = 48, .cache = GLIBC_CACHE_SLOTS,
	  .links_are_masked = true, .mapped_size_is_net = true, .mapped_bytes_drift = true },
	{ .first = 242, .last = 242, .bins = 112, .from_bins_system = 2072, .state_bytes = 2200,
	  .fast_bins = true, .params_bytes = 136, .huge_page = 40, .mapped_count = 60,
	  .mapped_bytes = 80, .break_begin = 96, .heap_header = 48,
	  .cache = GLIBC_CACHE_SLOTS, .links_are_masked = true },
	{ .first = 235, .last = 241, .bins = 112, .from_bins_system = 2072, .state_bytes = 2200,
	  .fast_bins = true, .params_bytes = 136, .huge_page = 40, .mapped_count = 60,
	  .mapped_bytes = 80, .break_begin = 96, .heap_header = 48,
	  .cache = GLIBC_CACHE_COUNTS, .links_are_masked = true },
	{ .first = 232, .last = 234, .bins = 112, .from_bins_system = 2072, .state_bytes = 2200,
	  .fast_bins = true, .params_bytes = 112, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 72, .heap_header = 32, .cache = GLIBC_CACHE_COUNTS,
	  .links_are_masked = true },
	{ .first = 230, .last = 231, .bins = 112, .from_bins_system = 2072, .state_bytes = 2200,
	  .fast_bins = true, .params_bytes = 112, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 72, .heap_header = 32, .cache = GLIBC_CACHE_COUNTS },
	{ .first = 227, .last = 229, .bins = 112, .from_bins_system = 2072, .state_bytes = 2200,
	  .fast_bins = true, .params_bytes = 112, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 72, .heap_header = 32, .cache = GLIBC_CACHE_BYTES },
	{ .first = 226, .last = 226, .bins = 104, .from_bins_system = 2072, .state_bytes = 2192,
	  .fast_bins = true, .params_bytes = 112, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 72, .heap_header = 32, .cache = GLIBC_CACHE_BYTES },
	{ .first = 224, .last = 225, .bins = 104, .from_bins_system = 2072, .state_bytes = 2192,
	  .fast_bins = true, .params_bytes = 80, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 72, .heap_header = 32 },
	{ .first = 223, .last = 223, .bins = 104, .from_bins_system = 2072, .state_bytes = 2192,
	  .fast_bins = true, .params_bytes = 88, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 80, .heap_header = 32 },
	{ .first = 217, .last = 222, .bins = 104, .from_bins_system = 2064, .state_bytes = 2184,
	  .fast_bins = true, .params_bytes = 88, .mapped_count = 40, .mapped_bytes = 56,
	  .break_begin = 80, .heap_header = 32, .mapped_race_last = 218 },
};

#define LAYOUTS (sizeof(layouts) / sizeof(*layouts))

const struct glibc_layout *glibc_layout_of(unsigned version)
{
	for (size_t i = 0; i < LAYOUTS; i++)
		if (version >= layouts[i].first && version <= layouts[i].last)
			return &layouts[i];
	return NULL;
}

const struct glibc_layout *glibc_layout_list(size_t *count)
{
	*count = LAYOUTS;
	return layouts;
}

unsigned glibc_layout_cache_bins(const struct glibc_layout *layout)
{
	return layout->cache == GLIBC_CACHE_SLOTS ? ALL_CACHE_BINS : SMALL_CACHE_BINS;
}

size_t glibc_layout_cache_entries(const struct glibc_layout *layout)
{
	return layout->cache == GLIBC_CACHE_BYTES ? SMALL_CACHE_BINS :
	       2 * glibc_layout_cache_bins(layout);
}

size_t glibc_layout_cache_chunk(const struct glibc_layout *layout)
{
	size_t bytes = glibc_layout_cache_entries(layout) + 8 * glibc_layout_cache_bins(layout);

	return (bytes + 8 + 15) & ~15ul;
}

/* ptmalloc's bins for 64 bits: exact sizes below 1 KiB, then ever wider steps. */
unsigned glibc_layout_bin(uint64_t bytes)
{
	static const struct {
		unsigned shift, last, base;
	} steps[] = { { 6, 48, 48 }, { 9, 20, 91 }, { 12, 10, 110 }, { 15, 4, 119 }, { 18, 2, 124 } };

	if (bytes < 1024)
		return (unsigned)(bytes / 16);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
		if (bytes >> steps[i].shift <= steps[i].last)
			return steps[i].base + (unsigned)(bytes >> steps[i].shift);
	return 126;
}
