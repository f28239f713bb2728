// SPDX-License-Identifier: Apache-2.0
// How the park looks: lawn, paths, pond and trees, by day and by night. Nothing here knows of usher.
// Everything is drawn in park units; what never moves is drawn once, into a canvas of its own.
import { PARK, POND } from "./rules.mjs";

export const TURN = 2 * Math.PI;
export const DAY = {
    lawn: ["#a8d46f", "#86bf58"],
    stripe: "rgba(255,255,255,0.075)",
    tuft: ["#6ea644", "#b9e085"],
    path: ["#d9b98a", "#f1dcb4"],
    water: ["#9fdcf0", "#4aa3cf"],
    shore: "#e9d7a6",
    leaf: [
        ["#2f7d43", "#4ea455", "#7cc76a"],
        ["#3b8a3a", "#63b04a", "#96d162"],
        ["#27704f", "#3f9965", "#6fc083"],
    ],
    hedge: ["#3d8a45", "#5fae57"],
    shade: "rgba(28,58,30,0.24)",
    name: "#173018",
    halo: "rgba(255,255,255,0.85)",
};
export const NIGHT = {
    lawn: ["#2b4a3f", "#1d3833"],
    stripe: "rgba(255,255,255,0.022)",
    tuft: ["#1b352d", "#3a6150"],
    path: ["#4a4a4c", "#65625c"],
    water: ["#2c5f86", "#12304f"],
    shore: "#5b5a50",
    leaf: [
        ["#12302c", "#1c463b", "#2a5f4b"],
        ["#163426", "#225039", "#306a49"],
        ["#112c33", "#1b4247", "#285a5b"],
    ],
    hedge: ["#142f29", "#214537"],
    shade: "rgba(0,0,0,0.36)",
    name: "#eef6ee",
    halo: "rgba(8,20,18,0.8)",
};

/** Half the side of a tree's picture, in its sizes. */
const TREE_ROOM = 1.4;
const TREES = [
    [150, 170, 82, 0],
    [300, 110, 60, 1],
    [455, 205, 70, 2],
    [108, 420, 66, 1],
    [720, 130, 74, 0],
    [880, 92, 52, 2],
    [1480, 130, 84, 1],
    [1420, 300, 54, 0],
    [1500, 560, 76, 2],
    [1330, 900, 82, 0],
    [1170, 850, 56, 1],
    [1475, 830, 58, 2],
    [760, 905, 68, 1],
    [560, 850, 54, 0],
    [330, 880, 84, 2],
    [130, 820, 70, 0],
    [205, 640, 48, 1],
    [640, 505, 62, 2],
];
const LAMPS = [
    [395, 560],
    [800, 640],
    [1180, 590],
    [820, 300],
    [250, 300],
    [1290, 735],
];
const BEDS = [
    [520, 395, 46],
    [980, 740, 56],
    [270, 760, 40],
    [1330, 590, 40],
    [640, 245, 38],
];
const BENCHES = [
    [600, 660, -0.05],
    [905, 545, 0.5],
    [330, 420, 1.2],
    [1400, 690, -0.4],
];
const PETALS = ["#ff6b8b", "#ffd166", "#ffffff", "#c792ff", "#ff9f5a"];
const WAYS = [
    "M-20 560 C 260 470, 420 640, 700 640 S 1180 560, 1620 700",
    "M700 640 C 780 480, 760 380, 830 230 S 930 60, 900 -20",
    "M1130 520 C 1330 520, 1420 430, 1420 330 S 1290 120, 1120 140 S 830 230, 850 350 S 960 520, 1130 520",
    "M470 612 C 420 760, 480 880, 440 1020",
    "M-20 250 C 160 240, 300 300, 330 548",
];

/** The same numbers each time, so that all see the same park. */
function chance(seed) {
    return () => {
        seed = (seed + 0x6d2b79f5) | 0;
        let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

export function disc(pen, x, y, rx, ry, fill) {
    pen.fillStyle = fill;
    pen.beginPath();
    pen.ellipse(x, y, rx, ry, 0, 0, TURN);
    pen.fill();
}

// --- what never moves ------------------------------------------------------------------------------

function drawLawn(pen, look, random) {
    const light = pen.createRadialGradient(520, 420, 80, 800, 500, 1050);
    light.addColorStop(0, look.lawn[0]);
    light.addColorStop(1, look.lawn[1]);
    pen.fillStyle = light;
    pen.fillRect(0, 0, PARK.width, PARK.height);
    pen.fillStyle = look.stripe;
    for (let x = -PARK.height; x < PARK.width; x += 140) {
        pen.beginPath();
        pen.moveTo(x, PARK.height);
        pen.lineTo(x + 70, PARK.height);
        pen.lineTo(x + 70 + PARK.height * 0.6, 0);
        pen.lineTo(x + PARK.height * 0.6, 0);
        pen.fill();
    }
    pen.lineWidth = 1.6;
    pen.lineCap = "round";
    for (let count = 0; count < 1500; count++) {
        const [x, y] = [random() * PARK.width, random() * PARK.height];
        const [lean, height] = [random() * 6 - 3, 4 + random() * 6];
        pen.strokeStyle = look.tuft[random() < 0.6 ? 0 : 1];
        pen.globalAlpha = 0.5;
        pen.beginPath();
        pen.moveTo(x, y);
        pen.quadraticCurveTo(x, y - height / 2, x + lean, y - height);
        pen.moveTo(x + 3, y);
        pen.quadraticCurveTo(x + 3, y - height / 2, x + 5 + lean, y - height * 0.8);
        pen.stroke();
    }
    pen.globalAlpha = 1;
}

function drawWays(pen, look, random) {
    const ways = WAYS.map((way) => new Path2D(way));
    pen.lineJoin = "round";
    for (const [width, colour] of [
        [58, look.shade],
        [54, look.path[0]],
        [46, look.path[1]],
    ]) {
        pen.lineWidth = width;
        pen.strokeStyle = colour;
        ways.forEach((way) => pen.stroke(way));
    }
    pen.globalAlpha = 0.35;
    for (let count = 0; count < 9000; count++) {
        const [x, y] = [random() * PARK.width, random() * PARK.height];
        pen.lineWidth = 42;
        if (random() < 0.22 && ways.some((way) => pen.isPointInStroke(way, x, y))) {
            disc(pen, x, y, 1.6, 1.1, random() < 0.5 ? look.path[0] : look.halo);
        }
    }
    pen.globalAlpha = 1;
}

function drawPond(pen, look, random) {
    const { x, y, rx, ry } = POND;
    disc(pen, x + 4, y + 10, rx + 16, ry + 14, look.shade);
    disc(pen, x, y, rx + 14, ry + 12, look.shore);
    const deep = pen.createRadialGradient(x - 60, y - 50, 20, x, y, rx);
    deep.addColorStop(0, look.water[0]);
    deep.addColorStop(1, look.water[1]);
    disc(pen, x, y, rx, ry, deep);
    for (let angle = 0; angle < TURN; angle += 0.09 + random() * 0.12) {
        const [stoneX, stoneY] = [x + Math.cos(angle) * (rx + 8), y + Math.sin(angle) * (ry + 7)];
        const grey = (look === NIGHT ? 58 : 150) + Math.floor(random() * 50);
        disc(
            pen,
            stoneX,
            stoneY,
            6 + random() * 6,
            5 + random() * 4,
            `rgb(${grey},${grey},${grey - 8})`,
        );
    }
    for (const [padX, padY, size] of [
        [-130, 40, 22],
        [-95, 66, 15],
        [120, -52, 20],
        [150, -20, 14],
        [60, 78, 17],
    ]) {
        pen.fillStyle = look.leaf[1][1];
        pen.beginPath();
        pen.moveTo(x + padX, y + padY);
        pen.ellipse(x + padX, y + padY, size, size * 0.66, 0, 0.5, TURN - 0.2);
        pen.fill();
    }
    disc(pen, x - 124, y + 34, 6, 5, "#ffb3cf");
    disc(pen, x + 126, y - 56, 6, 5, "#ffffff");
}

function drawBeds(pen, look, random) {
    for (const [x, y, size] of BEDS) {
        disc(pen, x, y, size * 1.15, size * 0.72, look.leaf[0][0]);
        for (let count = 0; count < size * 1.6; count++) {
            const [angle, far] = [random() * TURN, Math.sqrt(random())];
            const [flowerX, flowerY] = [
                x + Math.cos(angle) * far * size,
                y + Math.sin(angle) * far * size * 0.58,
            ];
            pen.globalAlpha = look === NIGHT ? 0.55 : 1;
            disc(pen, flowerX, flowerY, 3.6, 3.2, PETALS[Math.floor(random() * PETALS.length)]);
            disc(pen, flowerX, flowerY, 1.2, 1.1, "#b06a12");
        }
        pen.globalAlpha = 1;
    }
}

function drawBenches(pen, look) {
    for (const [x, y, angle] of BENCHES) {
        pen.save();
        pen.translate(x, y);
        pen.rotate(angle);
        pen.fillStyle = look.shade;
        pen.fillRect(-34, -4, 70, 22);
        for (const [row, colour] of ["#8a5a2f", "#a9713d", "#a9713d"].entries()) {
            pen.fillStyle = look === NIGHT ? "#4c3727" : colour;
            pen.fillRect(-36, -12 + row * 8, 72, 6);
        }
        pen.restore();
    }
}

function drawHedge(pen, look, random) {
    const bush = (x, y) => {
        const size = 17 + random() * 9;
        disc(pen, x + 3, y + 5, size, size, look.shade);
        disc(pen, x, y, size, size, look.hedge[0]);
        disc(pen, x - size * 0.2, y - size * 0.28, size * 0.62, size * 0.56, look.hedge[1]);
    };
    for (let x = 0; x <= PARK.width; x += 24) {
        bush(x, -4 + random() * 6);
        bush(x, PARK.height + 4 - random() * 6);
    }
    for (let y = 0; y <= PARK.height; y += 24) {
        bush(-4 + random() * 6, y);
        bush(PARK.width + 4 - random() * 6, y);
    }
}

/** One tree in a picture of its own: three layers of leaves, the lighter the higher. */
function treePicture([, , size, kind], index, scale, look) {
    const random = chance(index + 1);
    const half = size * TREE_ROOM;
    const [canvas, pen] = canvasOf(2 * half, 2 * half, scale);
    const [dark, middle, light] = look.leaf[kind];
    for (const [colour, part, spread, count, lift] of [
        [dark, 0.56, 0.52, 9, 0],
        [middle, 0.46, 0.42, 8, 0.14],
        [light, 0.24, 0.4, 7, 0.14],
    ]) {
        for (let blob = 0; blob < count; blob++) {
            const angle = (blob / count) * TURN + random() * 0.7;
            const far = size * spread * (0.7 + random() * 0.45);
            const [x, y] = [half + Math.cos(angle) * far, half + Math.sin(angle) * far];
            disc(pen, x, y - size * lift, size * part, size * part, colour);
        }
        if (colour !== light) {
            disc(pen, half, half - size * lift, size * part, size * part, colour);
        }
    }
    return canvas;
}

function canvasOf(width, height, scale) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [Math.ceil(width * scale), Math.ceil(height * scale)];
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    return [canvas, pen];
}

/** Pictures of the ground and of the trees, `scale` pixels for a unit. */
export function makeScenery(scale, night) {
    const look = night ? NIGHT : DAY;
    const random = chance(15);
    const [ground, pen] = canvasOf(PARK.width, PARK.height, scale);
    for (const part of [drawLawn, drawWays, drawPond, drawBeds, drawBenches, drawHedge]) {
        part(pen, look, random);
    }
    TREES.forEach(([x, y, size]) =>
        disc(pen, x + size * 0.34, y + size * 0.5, size, size * 0.8, look.shade),
    );
    const trees = TREES.map((tree, index) => treePicture(tree, index, scale, look));
    return { ground, trees };
}

// --- what moves a little ---------------------------------------------------------------------------

export function drawWater(pen, seconds, night) {
    pen.lineWidth = 1.5;
    for (let ring = 0; ring < 4; ring++) {
        const age = (seconds * 0.22 + ring / 4) % 1;
        const [x, y] = [POND.x + [-60, 70, -10, 130][ring], POND.y + [-20, 30, 55, -40][ring]];
        pen.strokeStyle = `rgba(255,255,255,${(1 - age) * (night ? 0.16 : 0.5)})`;
        pen.beginPath();
        pen.ellipse(x, y, 8 + age * 44, 4 + age * 22, 0, 0, TURN);
        pen.stroke();
    }
}

/** Crowns above everybody, drawn from their pictures. Whoever walks below one shows through it. */
export function drawTrees(pen, seconds, { trees }, places) {
    TREES.forEach(([x, y, size], index) => {
        const sway = Math.sin(seconds * 0.8 + index * 1.7) * 2.2;
        const below = places.some(
            ([otherX, otherY]) => Math.hypot(otherX - x, otherY - y) < size + 8,
        );
        const half = size * TREE_ROOM;
        pen.globalAlpha = below ? 0.42 : 1;
        pen.drawImage(trees[index], x - half + sway, y - half, 2 * half, 2 * half);
    });
    pen.globalAlpha = 1;
}

/** Lamps and fireflies by night, shadows of clouds by day. */
export function drawAir(pen, seconds, night) {
    if (!night) {
        for (const [start, y, size] of [
            [0, 260, 260],
            [900, 740, 320],
            [1500, 120, 220],
        ]) {
            const x = ((start + seconds * 14) % (PARK.width + 800)) - 400;
            disc(pen, x, y, size, size * 0.42, "rgba(20,60,30,0.055)");
            disc(pen, x + size * 0.6, y + 40, size * 0.7, size * 0.32, "rgba(20,60,30,0.055)");
        }
        return;
    }
    pen.globalCompositeOperation = "lighter";
    for (const [x, y] of LAMPS) {
        const glow = pen.createRadialGradient(x, y - 26, 2, x, y, 190);
        glow.addColorStop(0, "rgba(255,214,140,0.55)");
        glow.addColorStop(0.2, "rgba(255,190,105,0.2)");
        glow.addColorStop(1, "rgba(255,180,90,0)");
        disc(pen, x, y, 190, 190, glow);
        disc(pen, x, y - 26, 6, 6, "#fff1cf");
    }
    for (let fly = 0; fly < 26; fly++) {
        const x =
            800 + Math.sin(seconds * 0.21 + fly * 2.4) * 720 + Math.sin(seconds * 0.9 + fly) * 40;
        const y =
            500 + Math.cos(seconds * 0.17 + fly * 1.9) * 430 + Math.cos(seconds * 1.1 + fly) * 30;
        const shine = Math.max(0, Math.sin(seconds * 1.6 + fly * 1.3));
        disc(pen, x, y, 2.6, 2.6, `rgba(220,255,150,${0.75 * shine})`);
    }
    pen.globalCompositeOperation = "source-over";
}
