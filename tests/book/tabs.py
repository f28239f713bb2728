#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does in Chromium what a page of the book tells its reader to do with two tabs.

    tabs.py talk       alice and bob talk, bob is loaded again, a third tab is bob, at localhost:8000
    tabs.py tokens     alice has her name, and another browser does not get it, at localhost:8001

Without Chromium nothing is done, and that is said."""

import contextlib
import sys

from usherplay.browser import SKIPPED, Browser, skip_without


def say(browser, text):
    browser.script(
        "document.querySelector('input').value = arguments[0];"
        "document.querySelector('form').requestSubmit()",
        text,
    )


def tab(browser, url):
    browser.driver.switch_to.new_window("tab")
    browser.driver.get(url)
    browser.until("#state", "online")
    return browser.driver.current_window_handle


def talk(browser):
    alice = tab(browser, "http://localhost:8000/?user=alice")
    browser.until("#roster", "alice")
    bob = tab(browser, "http://localhost:8000/?user=bob")
    browser.until("#roster", "alice", "bob")
    say(browser, "who plays?")
    browser.until("#log", "bob: who plays?")
    browser.driver.switch_to.window(alice)
    browser.until("#log", "bob: who plays?")
    browser.driver.switch_to.window(bob)
    browser.driver.refresh()
    browser.until("#roster", "alice", "bob")
    third = tab(browser, "http://localhost:8000/?user=bob")
    browser.until("#roster", "alice", "bob")
    browser.driver.switch_to.window(bob)
    browser.until("#log", "REPLACED, for good")
    for window in (alice, bob, third):
        browser.driver.switch_to.window(window)
        browser.script("client.close()")


def tokens(browser):
    tab(browser, "http://localhost:8001/?user=alice")
    browser.until("#roster", "alice")
    say(browser, "it works")
    browser.until("#log", "alice: it works")
    with contextlib.closing(Browser()) as other:
        other.driver.get("http://localhost:8001/?user=alice")
        other.until("#log", "UNAUTHENTICATED, for good")


if __name__ == "__main__":
    try:
        skip_without()
    except SystemExit as end:
        sys.exit(0 if end.code == SKIPPED else end.code)
    with contextlib.closing(Browser()) as chromium:
        {"talk": talk, "tokens": tokens}[sys.argv[1]](chromium)
