#!/usr/bin/env python3
"""Refuses what g++ 12 compiles wrongly, or says nothing about, in coroutines (docs in README, "The g++ 12 rule").

1. In a full expression with co_await: a braced temporary as an argument, a lambda with by-value captures in place, or
   a conditional operator (seen: the arm that was not chosen was evaluated, g++ 12.2).
2. co_await as the condition of `if` or `while`: where it is a function's only co_await, its frame can end up eight
   bytes off and a resume reads garbage (seen with sleep_until in `for (;;)`). The result goes into a named variable.
3. Asio's operator|| between awaitables: `first_of` (base/cancellation.hpp) is what does not wait for ever where the
   caller was cancelled before.
4. A statement that is nothing but `co_await something;` where the Result is dropped: `(void)` or TRY says it is meant.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRACED = re.compile(r"co_await\b[^;]*?[(,]\s*(?:[A-Za-z_:]+\s*)?\{[^}]")
TYPED_BRACE = re.compile(r"co_await\b[^;]*?\b[A-Z]\w*\{[^}]")
CONDITIONAL = re.compile(r"co_await\b[^;{]*\([^;{]*\?[^;{]*:|\?\s*co_await\b|\?[^:;]*:\s*co_await\b")
BY_VALUE = re.compile(r"co_await\b[^;{]*\[\s*(?:=|[a-z_]\w*\s*(?:[,=\]]))")
CONDITION = re.compile(r"\b(?:if|while)\s*\(\s*!?\s*co_await\b")
DROPPED = re.compile(r"^\s*co_await\s+(?!boost::|asio::)[^;=]*;", re.M)
# Awaitables that carry nothing: drains, joins and bare Asio operations.
PLAIN = re.compile(r"async_|use_awaitable|this_coro|sleep_until|\bsettled\(|\.wait\(|yield\(|stop_all\(|std::move\(task\)|\bdrain\(|\bjoin\(|\brun\(batch\)")
OPERATORS = re.compile(r"\bawaitable_operators\b")
FIRST_OF = ROOT / "libtornado/base/cancellation.hpp"


def strip(text: str) -> str:
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)


def statements(text: str):
    """Yields (line, statement) for every statement that contains co_await, up to its semicolon."""
    for match in re.finditer(r"co_await\b", text):
        start = max(text.rfind(c, 0, match.start()) for c in ";{}") + 1
        depth, end = 0, match.start()
        while end < len(text):
            c = text[end]
            depth += c in "([{"
            depth -= c in ")]}"
            if depth < 0 or (c == ";" and depth == 0):
                break
            end += 1
        yield text.count("\n", 0, match.start()) + 1, text[start : end + 1]


def check(path: Path) -> list[str]:
    text = strip(path.read_text())
    found = []
    if path != FIRST_OF and OPERATORS.search(text):
        found.append(f"{path.relative_to(ROOT)}: Asio's operators on awaitables; first_of knows of a former cancellation")
    for line, statement in statements(text):
        flat = " ".join(statement.split())
        tail = flat[flat.index("co_await") :]
        if BRACED.search(tail) or TYPED_BRACE.search(tail):
            found.append(f"{path.relative_to(ROOT)}:{line}: braced temporary in a full expression with co_await")
        if CONDITIONAL.search(flat.replace("::", "  ")):
            found.append(f"{path.relative_to(ROOT)}:{line}: conditional operator in a full expression with co_await")
        if CONDITION.search(flat):
            found.append(f"{path.relative_to(ROOT)}:{line}: co_await as a condition")
        if BY_VALUE.search(tail):
            found.append(f"{path.relative_to(ROOT)}:{line}: by-value lambda in a full expression with co_await")
        if flat.startswith("co_await") and not PLAIN.search(flat):
            found.append(f"{path.relative_to(ROOT)}:{line}: the Result of this co_await is dropped")
    return found


def main() -> int:
    files = [p for d in ("libtornado", "apps", "include", "tests", "examples", "bindings") for p in (ROOT / d).rglob("*.[ch]pp")]
    problems = [problem for path in sorted(files) for problem in check(path)]
    print("\n".join(problems) if problems else f"check_coawait: {len(files)} files, nothing found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
