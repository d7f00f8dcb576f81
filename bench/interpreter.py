"""The program of the workload "interpreter": builds records, strings, dictionaries and
trees, throws most away, and prints what it found.

    interpreter.py COUNT
"""

import json
import sys


class Node:
    def __init__(self, key):
        self.key = key
        self.left = self.right = None

    def insert(self, key):
        node = self
        while node.key != key:
            side = "left" if key < node.key else "right"
            child = getattr(node, side)
            if child is None:
                setattr(node, side, Node(key))
                return
            node = child


def records(count, seed):
    for number in range(count):
        seed = (seed * 1103515245 + 12345) % 2**31
        yield {"id": number, "name": f"record {seed}", "tags": [str(seed >> i) for i in range(8)],
               "text": "lorem ipsum " * (seed % 20)}


def main():
    count = int(sys.argv[1])
    total = 0
    for seed in range(4):
        text = json.dumps(list(records(count, seed)))
        words = {}
        for record in json.loads(text):
            for word in record["text"].split() + record["tags"]:
                words[word] = words.get(word, 0) + 1
        root = Node("")
        for word in sorted(words, key=lambda w: w[::-1])[::5]:
            root.insert(word)
        total += len(text) + len(words)
    print(total)


if __name__ == "__main__":
    main()
