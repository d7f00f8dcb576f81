/*
 * The containers of C++, each filled with some 50 MiB and let go: what it had goes back.
 * Layer: tests.
 *
 *   containers WAY [together]   WAY as in rest.h; together: none goes before all are there
 */
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "return/rest.h"

namespace {

constexpr int few = 500'000, many = 8'000'000;

/* Longer than what a string keeps within itself. */
std::string text(int number)
{
	return "the text number " + std::to_string(number) + " of all";
}

bool all_together;
std::vector<std::shared_ptr<void>> all;

/* `fill` adds one element by its number.  The container is destroyed: a vector that is
 * only cleared keeps its memory for itself. */
template<typename Container, typename Fill>
void check(const char *name, int count, Fill fill)
{
	auto container = std::make_shared<Container>();

	for (int i = 0; i < count; i++)
		fill(*container, i);
	rest_full();
	if (all_together) {
		all.push_back(std::move(container));
		return;
	}
	container.reset();
	rest_check(name, 0);
}

struct node {
	std::shared_ptr<node> next;
	std::weak_ptr<node> previous;
};

/* A list whose head, when it goes, would take the rest along by recursion. */
struct chain {
	std::shared_ptr<node> head;

	void push()
	{
		auto fresh = std::make_shared<node>();

		fresh->next = head;
		if (head)
			head->previous = fresh;
		head = fresh;
	}

	~chain()
	{
		while (head)
			head = std::move(head->next);
	}
};

} // namespace

int main(int argc, char **argv)
{
	using std::string;

	all_together = argc > 2 && std::string_view(argv[2]) == "together";
	rest_start(argc > 1 ? argv[1] : "");
	check<std::vector<int>>("vector", 2 * many, [](auto &c, int i) { c.push_back(i); });
	check<std::vector<string>>("vector of strings", few,
	                           [](auto &c, int i) { c.push_back(text(i)); });
	check<std::vector<std::vector<int>>>("vector of vectors", few,
	                                     [](auto &c, int i) { c.emplace_back(i % 64, i); });
	check<string>("string", 8 * many, [](auto &c, int i) { c += static_cast<char>(i); });
	check<std::deque<int>>("deque", 2 * many, [](auto &c, int i) { c.push_back(i); });
	check<std::list<int>>("list", 4 * few, [](auto &c, int i) { c.push_back(i); });
	check<std::forward_list<int>>("forward_list", 4 * few,
	                              [](auto &c, int i) { c.push_front(i); });
	check<std::set<string>>("set", few, [](auto &c, int i) { c.insert(text(i)); });
	check<std::multiset<int>>("multiset", 2 * few, [](auto &c, int i) { c.insert(i / 3); });
	check<std::map<int, string>>("map", few, [](auto &c, int i) { c.emplace(i, text(i)); });
	check<std::multimap<int, int>>("multimap", 2 * few,
	                               [](auto &c, int i) { c.emplace(i / 3, i); });
	check<std::unordered_set<string>>("unordered_set", few,
	                                  [](auto &c, int i) { c.insert(text(i)); });
	check<std::unordered_map<int, string>>("unordered_map", few,
	                                       [](auto &c, int i) { c.emplace(i, text(i)); });
	check<std::priority_queue<string>>("priority_queue", few,
	                                   [](auto &c, int i) { c.push(text(i)); });
	check<std::queue<std::unique_ptr<int>>>(
		"queue of unique_ptr", 4 * few,
		[](auto &c, int i) { c.push(std::make_unique<int>(i)); });
	check<chain>("shared_ptr", 2 * few, [](auto &c, int) { c.push(); });
	check<std::vector<std::function<int()>>>(
		"function", 2 * few, [](auto &c, int i) {
			c.push_back([i, j = 2L * i, k = 3L * i] { return static_cast<int>(i + j + k); });
		});
	check<std::ostringstream>("ostringstream", few, [](auto &c, int i) { c << text(i); });
	if (all_together) {
		all.clear();
		all.shrink_to_fit();
		rest_check("all", 0);
	}
	return 0;
}
