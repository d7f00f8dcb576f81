/*
 * Whether memory is short, for the thread that gives it back.
 *
 * That thread takes a table of descriptors of its own.  So a program may close every
 * descriptor it has, or count on the numbers of those that it opens, and fork and exec
 * inherit none of these.
 *
 * A service manager names a descriptor to wait for.  Without one, the counters of the
 * control group, or of the machine, are read once a tick: the kernel brings them up to
 * date at each read, which needs no privilege and a file that may be read-only, while
 * a trigger of one's own costs the machine a thread in the kernel, or is looked at
 * every two seconds only.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/pressure.h"
#include "base/settings.h"
#include "os/cgroup.h"
#include "os/os.h"
#include "os/syscall.h"

#define NONE (-1L)

/* What the service manager says; const after start-up. */
static struct {
	bool off;
	char path[PATH_MAX];      /* "": nothing */
	unsigned char text[256];  /* to be written there */
	size_t text_size;
} told;

/* Descriptors.  At most two at a time, so that 2 stays closed (os_write_error). */
static struct {
	long told, stall, high;
	short told_events;
	struct pressure_window window;
	size_t times_high;
	struct os_pressure_files files;
} watch = { .told = NONE, .stall = NONE, .high = NONE };

void os_pressure_configure(char *const *environment)
{
	const char *path = settings_variable(environment, "MEMORY_PRESSURE_WATCH");
	const char *text = settings_variable(environment, "MEMORY_PRESSURE_WRITE");

	told.off = path != NULL && span_is(span_of(path), "/dev/null");
	told.path[0] = '\0';
	if (path == NULL || path[0] != '/' || strlen(path) >= sizeof(told.path))
		return;
	told.text_size = pressure_decode(span_of(text != NULL ? text : ""), told.text,
	                                 sizeof(told.text));
	if (told.text_size != SIZE_MAX)
		memcpy(told.path, path, strlen(path) + 1);
}

static long connect_to(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	long fd;

	if (strlen(path) >= sizeof(name.sun_path))
		return NONE;
	memcpy(name.sun_path, path, strlen(path));
	fd = sys(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!sys_failed(fd) && sys_failed(sys(SYS_connect, fd, &name, sizeof(name)))) {
		sys(SYS_close, fd);
		return NONE;
	}
	return fd;
}

/* A file of the kernel's, a FIFO or a socket: the protocol knows no other. */
static void open_told(void)
{
	char own[sizeof(told.text)];
	struct stat status;
	long fd = NONE;

	if (told.path[0] == '\0' || sys_failed(sys(SYS_stat, told.path, &status)))
		return;
	if (S_ISSOCK(status.st_mode))
		fd = connect_to(told.path);
	else if (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode))
		fd = sys(SYS_openat, AT_FDCWD, told.path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (sys_failed(fd))
		return;
	if (told.text_size != 0 &&
	    sys(SYS_write, fd, told.text, told.text_size) != (long)told.text_size) {
		sys(SYS_close, fd);
		return;
	}
	/* A FIFO hands back what was just written.  No more: an event may stand behind it. */
	if (S_ISFIFO(status.st_mode))
		sys(SYS_read, fd, own, told.text_size);
	watch.told = fd;
	watch.told_events = S_ISREG(status.st_mode) ? POLLPRI : POLLIN;
}

static struct span read_again(long fd, char *text, size_t size)
{
	long n = sys_failed(fd) ? fd : sys(SYS_pread64, fd, text, size, 0);

	return (struct span){ text, sys_failed(n) ? 0 : (size_t)n };
}

static size_t stall_us(void)
{
	char text[256];

	return pressure_stall_us(read_again(watch.stall, text, sizeof(text)));
}

static size_t times_high(void)
{
	char text[256];

	return pressure_times_high(read_again(watch.high, text, sizeof(text)));
}

/* The stall is the group's, or else the machine's. */
static NOINLINE void open_counters(void)
{
	struct cgroup_search search;
	struct cgroup_place *place = &search.places[CGROUP_V2];

	cgroup_find(&search, watch.files.groups, watch.files.mounts);
	if (place->top != 0) {
		watch.stall = cgroup_open(place, "/memory.pressure");
		watch.high = cgroup_open(place, "/memory.events");
	}
	if (sys_failed(watch.stall))
		watch.stall = sys(SYS_openat, AT_FDCWD, watch.files.machine, O_RDONLY | O_CLOEXEC);
	watch.window = (struct pressure_window){ stall_us(), 0 };
	watch.times_high = times_high();
}

static bool counters_rose(void)
{
	size_t before = watch.times_high;

	watch.times_high = times_high();
	return pressure_window_look(&watch.window, stall_us()) || watch.times_high > before;
}

/* What was sent is read, but for a flood. */
static bool take_message(void)
{
	char text[1024];
	bool any = false;

	for (int i = 0; i < 64 && sys(SYS_read, watch.told, text, sizeof(text)) > 0; i++)
		any = true;
	return any;
}

static bool wait_for_told(int64_t ms)
{
	struct timespec timeout = { ms / 1000, ms % 1000 * 1000000 };
	struct pollfd fd = { (int)watch.told, watch.told_events, 0 };
	long ready = sys(SYS_ppoll, &fd, 1, &timeout, NULL, sizeof(uint64_t));

	if (ready == 0)
		return false;
	if (ready == 1 && (watch.told_events == POLLPRI ? fd.revents == POLLPRI : take_message()))
		return true;
	/* Whoever was to tell is gone. */
	sys(SYS_close, watch.told);
	watch.told = NONE;
	open_counters();
	return os_pressure_wait(ms);
}

bool os_pressure_wait(int64_t ms)
{
	uint32_t never = 0;

	if (watch.told != NONE)
		return wait_for_told(ms);
	if (ms > 0)
		os_futex_wait(&never, 0, ms);
	return counters_rose();
}

void os_pressure_open(const struct os_pressure_files *files)
{
	watch.files = *files;
	watch.told = watch.stall = watch.high = NONE;
	open_told();
	if (watch.told == NONE)
		open_counters();
}

/* Linux 5.9 can leave a shared table and close what is in the own one, all at once. */
void os_pressure_begin(void)
{
	static const struct os_pressure_files files = {
		"/proc/self/cgroup", "/proc/self/mountinfo", "/proc/pressure/memory"
	};

	watch.told = watch.stall = watch.high = NONE;
	if (!told.off && sys(SYS_close_range, 0, UINT_MAX, CLOSE_RANGE_UNSHARE) == 0)
		os_pressure_open(&files);
}
