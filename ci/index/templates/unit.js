// Commands contain the public address; on a page served elsewhere, it is replaced by that address.
"use strict";
const folder = location.pathname.endsWith("/") ? location.pathname : location.pathname.replace(/[^/]*$/, "");
const up = folder.includes("/releases/download/") ? "../../.." : "..";
const here = new URL(up, new URL(folder, location.href)).href.replace(/\/$/, "");
for (const code of document.querySelectorAll("code[data-base]")) {
  code.textContent = code.textContent.replaceAll(code.dataset.base, here);
}
