/*
 * A program that uses the installed header and library: succeeds when libc's
 * malloc and a call made inside libc (strdup) both come from cede.
 */
#include <cede/cede.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *cede_options = "policy=classic";

static uint64_t live_bytes(void)
{
	struct cede_stats stats;

	return cede_stats(&stats, sizeof stats) == 0 ? stats.live_bytes : 0;
}

int main(void)
{
	static char text[100001];
	struct cede_stats stats;
	uint64_t before;
	void *block;
	char *copy;

	memset(text, 'a', sizeof text - 1);
	before = live_bytes();
	block = malloc(100000);
	copy = strdup(text);
	if (block == NULL || copy == NULL || live_bytes() < before + 200000) {
		fprintf(stderr, "malloc or strdup does not come from cede %s\n", cede_version());
		return 1;
	}
	free(block);
	free(copy);
	if (cede_stats(&stats, sizeof stats) != 0 || stats.policy != CEDE_POLICY_CLASSIC) {
		fprintf(stderr, "the program's cede_options string was not read\n");
		return 1;
	}
	return 0;
}
