# SPDX-License-Identifier: Apache-2.0
"""References by number and by name: sections and parts of pages, decisions, metrics, alerts, variables,
requests of the admin endpoint, the figures of README.md; and what the source's comments and texts say
of the documentation."""

import os
import re
import subprocess

CODE = (".c", ".h", ".def", ".py", ".ts", ".mjs", ".js", ".html", ".css", ".proto", ".yaml", ".sh")
CODE += (
    ".cmake",
    ".supp",
    ".pml",
    "CMakeLists.txt",
    "Containerfile",
    "/postinst",
    "dev",
    ".service",
)
PAGE = r"(?<![\w/.-])((?:\.\./)*(?:docs/)?[a-z][a-z-]*\.md)"
SUFFIX = re.compile(r"_(total|bucket|sum|count|seconds)$")
FOREIGN_PAGES = {"readme.md"}


def section_numbers(titles):
    return {number[1] for title in titles if (number := re.match(r"(\d+(?:\.\d+)*)\.? ", title))}


def page_of(source, page, name):
    """A page by its name: beside this one, or of docs/."""
    for place in (
        os.path.normpath(os.path.join(os.path.dirname(page), name)),
        f"docs/{name}",
        name,
    ):
        if place in source.files:
            return place
    return None


def prose(text):
    return re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S
    )


def numbered(words):
    """The numbers of "5 and 6", "10 to 12", "2, 3"."""
    return re.findall(r"\d+(?:\.\d+)*", words)


def sections_elsewhere(source, page, text):
    """[protocol.md](protocol.md), 2.6 and docs/protocol.md part 2."""
    link = r"(?:\]\(" + PAGE + r"(?:#[\w-]+)?\)|`?" + PAGE + r"`?)"
    number = r",? (?:(?:parts?|sections?) (\d+(?:\.\d+)*)|(\d+\.\d+(?:\.\d+)*)(?![\d.]*[ ]?(?:KB|MB|s|ms|%|us|times|bytes)\b))"
    for found in re.finditer(link + number, prose(text)):
        name = page_of(source, page, found[1] or found[2])
        wanted = found[3] or found[4]
        if name and wanted not in section_numbers(source.titles(name)):
            yield found.start(), f"no section {wanted} in {name}"


def sections_here(source, page, text):
    """Section 5, parts 2 and 3: of this page, unless another one is named right before."""
    known = section_numbers(source.titles_of(page, text))
    plain = prose(text)
    for found in re.finditer(
        r"\b([Ss]ections?|[Pp]arts?) (\d+(?:\.\d+)*(?:(?:, | and | to )\d+(?:\.\d+)*)*)", plain
    ):
        before = plain[max(0, found.start() - 90) : found.start()]
        if re.search(PAGE + r"(?:#[\w-]+)?[)`]?,? ?(?:\()?$", before) or before.endswith("["):
            continue  # sections_elsewhere looks at it; or it is the text of a link
        for number in numbered(found[2]):
            if number not in known:
                yield found.start(), f"no section {number} on this page"


def decisions(source, page, text):
    for found in re.finditer(r"\b[Dd]ecisions? (\d+)(?:\]\(([^)\s]+)\))?", text):
        if int(found[1]) not in source.decisions:
            yield found.start(), f"no decision {found[1]}"
        elif found[2] and not re.search(rf"(?:^|/)0*{int(found[1])}-", found[2]):
            yield found.start(), f"decision {found[1]} leads to {found[2]}"
    for found in re.finditer(r"\[(?:decisions/)?(\d{2,4})\]\(([^)\s]*decisions/|)(\d{4})-", text):
        if int(found[1]) != int(found[3]):
            yield found.start(), f"decision {found[1]} leads to {found[3]}"


def metrics(source, page, text):
    """A word that begins with usher_ is one of some source, or a metric."""
    for found in re.finditer(r"(?<![\w/.-])usher_[a-z0-9_]+(?![\w*(-]|\.py)", text):
        word = found[0]
        short = SUFFIX.sub("", SUFFIX.sub("", word[6:]))
        if word not in source.words and not {word[6:], short} & source.words:
            yield found.start(), f"no metric or function {word}"


def alerts(source, page, text):
    for found in re.finditer(r"`(Usher[A-Z]\w+)`", text):
        if found[1] not in source.alerts and found[1] not in source.words:
            yield found.start(), f"no alert {found[1]}"


def variables(source, page, text):
    for found in re.finditer(r"\bUSHER_[A-Z0-9_]+\b", text):
        if found[0] not in source.words and not found[0].endswith("_"):
            yield found.start(), f"no source knows {found[0]}"


def requests(source, page, text):
    """/api/rooms: some source asks or answers that."""
    for found in re.finditer(r"(?<![\w.])/api/([a-z_-]+)", text):
        if not re.search(rf"/api/{re.escape(found[1])}\b|\"{re.escape(found[1])}\"", source.admin):
            yield found.start(), f"no request /api/{found[1]}"
    for found in re.finditer(r"(?:(?<![\w.])/v1|\$AT)((?:/[\w{}.:$~-]+)+)", text):
        if not any(re.fullmatch(path, found[1]) for path in source.http_paths):
            yield found.start(), f"no request /v1{found[1]}"


def names_of_tests(build):
    told = subprocess.run(["ctest", "--test-dir", build, "-N"], capture_output=True, text=True)
    return set(re.findall(r"^ *Test +#\d+: (\S+)", told.stdout, re.M))


def tests(source, page, text):
    """`js.usherd`: a test of that name; one that is left out where something is missing has its files."""
    kinds = {name.split(".")[0] for name in source.tests} - source.sections
    for found in re.finditer(r"`([a-z]+)\.([a-z][a-z_-]*)`", text):
        name, ending = found[0].strip("`"), found[2]
        if found[1] not in kinds or name in source.tests or name in source.bases:
            continue
        if not {ending, f"{ending}_test", f"{ending}.test"} & source.words:
            yield found.start(), f"no test {name}"


def figures(source, page, text):
    """A row of README.md that names a section of performance.md has its figures from there."""
    if page not in ("README.md", "docs/planted.md"):
        return
    for row in re.finditer(r"^\|.*\]\((?:docs/)?performance\.md#([\w-]+)\).*$", text, re.M):
        there = source.section("docs/performance.md", row[1])
        cells = re.sub(r"\]\([^)]*\)|`[^`]*`", "", row[0]).split("|")[2:-2]
        for number in re.findall(r"\d[\d,]*\.?\d*", " ".join(cells)):
            if not re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d]|[.,]\d)", there):
                yield row.start(), f"{number} is not in performance.md#{row[1]}"


PAGE_KINDS = (
    sections_elsewhere,
    sections_here,
    decisions,
    metrics,
    alerts,
    variables,
    requests,
    tests,
    figures,
)


# --- sources ------------------------------------------------------------------------------------------


def pages_in_source(source, page, text):
    for found in re.finditer(PAGE + r"(?:#([\w-]+))?(?![\w])", text):
        if found[1].lower() in FOREIGN_PAGES or text[found.start() - 1] in "\"'`*{":
            continue
        name = page_of(source, page, found[1])
        if name is None:
            yield found.start(), f"no page {found[1]}"
        elif found[2] and found[2] not in source.anchors(name):
            yield found.start(), f"no heading {found[1]}#{found[2]}"


def paths_in_source(source, page, text):
    for found in re.finditer(
        r"(?<![\w./-])(?:docs|broker|storage|proto)/[\w./-]*\w\.[a-z]+\b", text
    ):
        if found[0].endswith(".md") or source.is_file(found[0], page):
            continue
        if "NAME" in found[0] or "tests/" in page or "*" in text[found.start() : found.end() + 2]:
            continue  # tests make files of such names
        yield found.start(), f"no file {found[0]}"


def words_for_operators(source, page, text):
    """What the alert rules tell whoever is called: options and log events are there."""
    if not page.endswith("/alerts.yaml"):
        return
    sections = "|".join(sorted(source.sections))
    for found in re.finditer(rf"(?<![\w./])(?:{sections})\.[a-z_]+\b(?!\.)", text):
        if found[0] not in source.options and not found[0].endswith(".md"):
            yield found.start(), f"no option {found[0]}"
    for found in re.finditer(r"log events? ([a-z_]+)(?: and ([a-z_]+))?", text):
        for name in filter(None, found.groups()):
            if name not in source.events:
                yield found.start(), f"no event {name}"


SOURCE_KINDS = (
    pages_in_source,
    paths_in_source,
    sections_elsewhere,
    decisions,
    words_for_operators,
)


def is_source(name):
    return (
        name.endswith(CODE)
        and not name.startswith(("docs/", "tests/book/", "tests/fuzz/corpus/"))
        and "/bugs/" not in name
    )


PLANTED = (
    ("as [protocol](protocol.md), 9.9 says", "no section 9.9 in docs/protocol.md"),
    ("as [protocol](protocol.md) 2.99 says", "no section 2.99 in docs/protocol.md"),
    (
        "as [performance.md](performance.md), section 99, says",
        "no section 99 in docs/performance.md",
    ),
    ("# 1. One\n\nas section 7 says", "no section 7 on this page"),
    ("# 1. One\n\nas parts 1 and 7 say", "no section 7 on this page"),
    ("see decision 9999", "no decision 9999"),
    ("see [decision 35](decisions/0061-inbox-of-records.md)", "decision 35 leads to"),
    (
        "see [decisions/0030](decisions/0035-memory-of-an-idle-user.md)",
        "decision 0030 leads to 0035",
    ),
    ("the series `usher_nothing_at_all_total`", "no metric or function usher_nothing_at_all_total"),
    ("call usher_do_nothing for it", "no metric or function usher_do_nothing"),
    ("page for `UsherNothing`", "no alert UsherNothing"),
    ("set USHER_NOTHING_AT_ALL", "no source knows USHER_NOTHING_AT_ALL"),
    ("ask `/api/nothing`", "no request /api/nothing"),
    ("the test `js.nothing-at-all`", "no test js.nothing-at-all"),
    ("ask `/v1/nothing`", "no request /v1/nothing"),
    ("ask `$AT/sessions/ann/nothing`", "no request /v1/sessions/ann/nothing"),
    (
        "| memory | 12,345 | [5](performance.md#5-many-users) |\n",
        "12,345 is not in performance.md#5-many-users",
    ),
)
SOUND = """# 1. One

[protocol.md](protocol.md), 2.6, section 1, `docs/performance.md` section 5, [decision 35](decisions/0035-memory-of-an-idle-user.md),
`usher_sessions`, usher_client_create, `UsherDown`, USHER_LINK, `book.links`, `play.mjs`, `/api/rooms`, `/v1/rooms/match:1/open`, docs/protocol.md part 2

| memory | 466 bytes | [5](performance.md#5-many-users) |
"""
PLANTED_ALERTS = (
    ("runbook: raise limits.nothing", "no option limits.nothing"),
    ("runbook: log events store_failed and nothing_happened say", "no event nothing_happened"),
)
SOUND_ALERTS = "runbook: log event store_failed, raise limits.users (docs/operations.md#rooms)"
PLANTED_SOURCES = (
    ("/* docs/nothing.md says why */", "no page docs/nothing.md"),
    ("# operations.md#nothing-there", "no heading operations.md#nothing-there"),
    ("/* see docs/protocol.md part 99 */", "no section 99 in docs/protocol.md"),
    ("/* protocol.md 2.99, byte for byte */", "no section 2.99 in docs/protocol.md"),
    ("/* decision 9999 */", "no decision 9999"),
    ("/* as broker/net/nothing.c does */", "no file broker/net/nothing.c"),
)
SOUND_SOURCE = "/* docs/admin.md, protocol.md 2.6, docs/operations.md#rooms, decision 106, broker/net/conn.c */"
