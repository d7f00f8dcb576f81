/*
 * A program in C++ that keeps all it has in the library's containers, in several
 * threads: nothing of it is lost.  It writes "ready" and waits for a letter.
 */
#include <any>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

struct first_base {
	virtual ~first_base() = default;
	int one = 1;
};

struct second_base {
	virtual ~second_base() = default;
	std::string two = "a text that is too long to be kept in place";
};

/* Held by its second base, behind the block's begin. */
struct derived : first_base, second_base {
	std::vector<int> numbers{1, 2, 3};
};

struct state {
	std::map<int, std::string> tree;
	std::unordered_map<std::string, std::vector<int>> table;
	std::list<std::unique_ptr<second_base>> list;
	std::deque<std::shared_ptr<derived>> deque;
	std::set<std::weak_ptr<derived>, std::owner_less<>> watchers;
	std::vector<std::function<int()>> functions;
	std::any any = std::string(100, 'a');
	std::shared_ptr<int[]> array{new int[1000]()};
	std::unique_ptr<derived[]> objects{new derived[20]};
	std::ostringstream stream;

	explicit state(int seed)
	{
		for (int i = 0; i < 2000; i++) {
			std::string text(static_cast<size_t>(i % 200), 'x');

			tree[i * seed % 7919] = text;
			table[std::to_string(i)] = std::vector<int>(static_cast<size_t>(i % 30));
			list.push_back(std::make_unique<derived>());
			deque.push_back(std::make_shared<derived>());
			watchers.insert(deque.back());
			functions.push_back([text, i] { return static_cast<int>(text.size()) + i; });
			stream << text;
		}
		while (deque.size() > 1500)
			deque.pop_front();
	}
};

static state global{1};
static thread_local std::unique_ptr<state> of_thread;
static std::atomic<int> waiting;
static std::mutex mutex;
static std::condition_variable never;

static void work(int seed, std::promise<std::string> *promise)
{
	state of_stack{seed};

	of_thread = std::make_unique<state>(seed + 1);
	promise->set_value(std::string(300, 'p'));
	waiting++;
	std::unique_lock<std::mutex> lock{mutex};
	never.wait(lock, [] { return false; });
}

int main()
{
	std::vector<std::promise<std::string>> promises(4);
	std::vector<std::future<std::string>> futures;
	std::vector<std::thread> threads;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (auto &promise : promises)
		futures.push_back(promise.get_future());
	for (int i = 0; i < 4; i++)
		threads.emplace_back(work, i + 2, &promises[static_cast<size_t>(i)]);
	while (waiting < 4)
		usleep(1000);
	usleep(100000);

	char letter;

	if (write(1, "ready\n", 6) != 6 || read(0, &letter, 1) != 1)
		_exit(0);
	_exit(0);
}
