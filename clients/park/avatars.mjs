// SPDX-License-Identifier: Apache-2.0
// How those look who run about in the park.
import { AVATAR_RADIUS, BOT } from "./rules.mjs";
import { DAY, NIGHT, TURN, disc } from "./scenery.mjs";

function hueOf(name) {
    let hash = 7;
    for (const letter of name) {
        hash = (hash * 31 + letter.codePointAt(0)) % 9973;
    }
    return (hash * 137.5) % 360;
}

export function colourOf(name, light = 58) {
    return `hsl(${hueOf(name)} 72% ${light}%)`;
}

function label(pen, text, x, y, look, size = 15, weight = 600) {
    pen.font = `${weight} ${size}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = look.halo;
    pen.strokeText(text, x, y);
    pen.fillStyle = look.name;
    pen.fillText(text, x, y);
}

function drawFace(pen, { dx, dy, away }) {
    for (const side of [-1, 1]) {
        const [x, y] = [side * 7.5 + dx * 4, -3 + dy * 4];
        if (away) {
            pen.strokeStyle = "#53605c";
            pen.lineWidth = 2;
            pen.beginPath();
            pen.arc(x, y - 1, 4.2, 0.3, Math.PI - 0.3);
            pen.stroke();
        } else {
            disc(pen, x, y, 5.6, 6.4, "#fff");
            disc(pen, x + dx * 2.2, y + dy * 2.4, 2.7, 3, "#1d2522");
        }
    }
}

/** Who is it burns; a ring of the time that is left is around who is away. */
function drawRing(pen, { it, away, mine, left }, seconds) {
    const radius = AVATAR_RADIUS;
    if (it) {
        const pulse = 0.5 + 0.5 * Math.sin(seconds * 6);
        const glow = pen.createRadialGradient(
            0,
            0,
            radius * 0.7,
            0,
            0,
            radius * (1.9 + pulse * 0.25),
        );
        glow.addColorStop(0, "rgba(255,84,30,0.95)");
        glow.addColorStop(0.5, "rgba(255,132,32,0.45)");
        glow.addColorStop(1, "rgba(255,170,60,0)");
        disc(pen, 0, 0, radius * 2.2, radius * 2.2, glow);
    }
    if (mine && !away) {
        pen.strokeStyle = "rgba(255,255,255,0.95)";
        pen.lineWidth = 3;
        pen.setLineDash([7, 6]);
        pen.lineDashOffset = -seconds * 14;
        pen.beginPath();
        pen.arc(0, 0, radius + 7, 0, TURN);
        pen.stroke();
        pen.setLineDash([]);
    }
    if (away) {
        pen.lineWidth = 4.5;
        pen.strokeStyle = "rgba(90,100,98,0.35)";
        pen.beginPath();
        pen.arc(0, 0, radius + 7, 0, TURN);
        pen.stroke();
        pen.strokeStyle = "#f0f4f2";
        pen.beginPath();
        pen.arc(0, 0, radius + 7, -TURN / 4, -TURN / 4 + TURN * left);
        pen.stroke();
    }
}

function drawChip(pen, text, y, fill) {
    pen.font = "800 13px system-ui, sans-serif";
    const width = pen.measureText(text).width + 18;
    pen.fillStyle = fill;
    pen.beginPath();
    pen.roundRect(-width / 2, y - 20, width, 20, 10);
    pen.fill();
    pen.beginPath();
    pen.moveTo(-5, y - 1);
    pen.lineTo(5, y - 1);
    pen.lineTo(0, y + 5);
    pen.fill();
    pen.fillStyle = "#fff";
    pen.textAlign = "center";
    pen.fillText(text, 0, y - 5.5);
}

/** who: { name, x, y, dx, dy (where he looks), it, mine, away, left (0..1 of his window), leftS (as text),
 * stride }. */
export function drawAvatar(pen, who, seconds, night) {
    const look = night ? NIGHT : DAY;
    const radius = AVATAR_RADIUS;
    const hop = Math.abs(Math.sin(who.stride)) * 4;
    pen.save();
    pen.translate(who.x, who.y);
    disc(pen, 2, radius * 0.86, radius * 0.95, radius * 0.42, look.shade);
    pen.translate(0, -hop);
    drawRing(pen, who, seconds);
    const body = pen.createRadialGradient(-7, -9, 2, 0, 0, radius * 1.15);
    body.addColorStop(0, who.away ? "#c9d1ce" : colourOf(who.name, 74));
    body.addColorStop(1, who.away ? "#8b9693" : colourOf(who.name, 50));
    if (who.name.startsWith(BOT)) {
        pen.strokeStyle = who.away ? "#8b9693" : colourOf(who.name, 40);
        pen.lineWidth = 2.5;
        pen.beginPath();
        pen.moveTo(0, -radius + 2);
        pen.lineTo(0, -radius - 8);
        pen.stroke();
        disc(pen, 0, -radius - 10, 3.6, 3.6, who.away ? "#8b9693" : "#ffd166");
    }
    disc(pen, 0, 0, radius, radius, body);
    pen.strokeStyle = "rgba(255,255,255,0.85)";
    pen.lineWidth = 2;
    pen.stroke();
    drawFace(pen, who);
    pen.restore();
}

/** His name and what is with him: above the trees, so that nobody hides from usher. */
export function drawSigns(pen, who, night) {
    pen.save();
    pen.translate(who.x, who.y);
    if (who.away) {
        drawChip(pen, `away ${who.leftS} s`, -AVATAR_RADIUS - 14, "#66736f");
    } else if (who.it) {
        drawChip(pen, "IT", -AVATAR_RADIUS - 14, "#f0481e");
    }
    label(pen, who.name.replace(BOT, ""), 0, AVATAR_RADIUS + 20, night ? NIGHT : DAY);
    pen.restore();
}

/** What somebody says, above him. */
export function drawBubble(pen, { x, y, it, away }, text, alpha) {
    pen.save();
    pen.translate(x, y - AVATAR_RADIUS - (it || away ? 52 : 24));
    pen.globalAlpha = alpha;
    pen.font = "500 15px system-ui, sans-serif";
    const width = Math.min(pen.measureText(text).width, 320) + 24;
    pen.shadowColor = "rgba(0,0,0,0.25)";
    pen.shadowBlur = 8;
    pen.fillStyle = "#fff";
    pen.beginPath();
    pen.roundRect(-width / 2, -30, width, 32, 14);
    pen.moveTo(-7, 1);
    pen.lineTo(7, 1);
    pen.lineTo(0, 11);
    pen.fill();
    pen.shadowBlur = 0;
    pen.fillStyle = "#20302a";
    pen.textAlign = "center";
    pen.fillText(text, 0, -9, 320);
    pen.restore();
}
