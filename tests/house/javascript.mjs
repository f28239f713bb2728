// SPDX-License-Identifier: Apache-2.0
// prettier over the files that are named: javascript.mjs FOLDER-OF-PRETTIER write|check FILE...
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, verb, ...files] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}.mjs`));
const prettier = await load("standalone");
const plugins = [(await load("babel")).default, (await load("estree")).default];

for (const file of files) {
    const text = readFileSync(file, "utf8");
    const parser = file.endsWith("ts") ? "babel-ts" : "babel";
    const options = { parser, plugins, tabWidth: 4, printWidth: 100 };
    const formatted = await prettier.format(text, options);
    if (formatted !== text && verb === "write") {
        writeFileSync(file, formatted);
    } else if (formatted !== text) {
        console.log(file);
        process.exitCode = 1;
    }
}
