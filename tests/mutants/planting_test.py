#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is planted, and where: each kind of change in a small source, and none where there is no code."""

import sys
import unittest

sys.dont_write_bytecode = True

import planting  # noqa: E402

SOURCE = """\
#include <stdio.h> /* a < b; x++; */
static const int table[] = {1, 2 < 3};

static bool take(struct box *box, size_t count)
{
    /* if (count > 0) */
    const char *text = "a == b; f();";
    if (count >= BOX_MAX || !box->open)
        return false;
    CHECK(count != 7);
    for (size_t i = 0; i < count; i++)
        box->held += i;
    box->last_ms = count - 1;
    wake(box, (int)count);
    return text != NULL;
}
"""


def planted(kind):
    """The changed lines, without their blanks."""
    found = []
    for change in planting.changes_of("box.c", SOURCE):
        if change.kind == kind:
            after = change.planted(SOURCE)
            found.append((change.line, after.splitlines()[change.line - 1].strip()))
    return found


class Planting(unittest.TestCase):
    def test_comparisons_are_turned(self):
        self.assertEqual(
            planted("comparison"),
            [
                (8, "if (count > BOX_MAX || !box->open)"),
                (11, "for (size_t i = 0; i <= count; i++)"),
                (15, "return text == NULL;"),
            ],
        )

    def test_bounds_are_off_by_one(self):
        self.assertEqual(
            planted("bound"),
            [(13, "box->last_ms = count - 2;"), (8, "if (count >= (BOX_MAX + 1) || !box->open)")],
        )

    def test_conditions_are_left_out(self):
        self.assertEqual(
            planted("condition"),
            [
                (8, "if (false)"),
                (8, "if (true)"),
                (8, "if (count >= BOX_MAX && !box->open)"),
                (8, "if (count >= BOX_MAX || box->open)"),
            ],
        )

    def test_calls_are_left_out_but_no_checks(self):
        self.assertEqual(planted("call"), [(14, ";")])

    def test_counters_do_not_move(self):
        self.assertEqual(planted("counter"), [(12, ";")])

    def test_fields_are_not_set(self):
        self.assertEqual(planted("field"), [(13, ";")])

    def test_results_are_turned(self):
        self.assertEqual(planted("result"), [(9, "return true;")])

    def test_offsets_are_those_of_the_source(self):
        self.assertEqual(len(planting.blanked(SOURCE)), len(SOURCE))
        self.assertEqual(planting.blanked(SOURCE).count("\n"), SOURCE.count("\n"))


if __name__ == "__main__":
    unittest.main()
