// SPDX-License-Identifier: Apache-2.0
// Light, dark or what the system says. A plain script in the head, so that the page is never shown
// in the wrong colours first; the rest of the console are modules and run later.
"use strict";

(function () {
    const KEY = "usher.theme";
    const NEXT = { system: "light", light: "dark", dark: "system" };
    const dark = window.matchMedia("(prefers-color-scheme: dark)");

    function chosen() {
        try {
            const word = localStorage.getItem(KEY);
            return word in NEXT ? word : "system";
        } catch {
            return "system"; // storage may be forbidden
        }
    }

    function apply() {
        const word = chosen();
        const shown = word === "system" ? (dark.matches ? "dark" : "light") : word;
        document.documentElement.dataset.theme = shown;
        const button = document.getElementById("theme-button");
        if (button) {
            button.textContent = `Theme: ${word}`;
        }
        document.dispatchEvent(new CustomEvent("themechange", { detail: shown }));
    }

    function next() {
        try {
            localStorage.setItem(KEY, NEXT[chosen()]);
        } catch {
            // then it stays as the system says
        }
        apply();
    }

    dark.addEventListener("change", apply);
    document.addEventListener("DOMContentLoaded", () => {
        document.getElementById("theme-button").addEventListener("click", next);
        apply();
    });
    apply();
})();
