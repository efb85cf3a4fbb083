// Fetches the page again every so many seconds and puts in what is marked `data-live`, without moving anything: scrolling,
// focus, a selection, a form that is being filled in stay. Everything else works without this script.
(() => {
  "use strict";
  const seconds = Number(document.body.dataset.refresh);
  document.documentElement.classList.add("scripted");
  if (!seconds) return;
  const pulse = document.getElementById("pulse");
  let every = seconds;
  let timer = 0;
  let running = null;

  const isBusy = (region) => {
    const focus = document.activeElement;
    if (focus && region.contains(focus) && focus.matches("input:not([type=hidden]), textarea, select")) return true;
    const selection = getSelection();
    return !!selection && !selection.isCollapsed && region.contains(selection.anchorNode);
  };

  const put = (region, fresh) => {
    if (region.outerHTML === fresh.outerHTML || isBusy(region)) return;
    const focus = region.contains(document.activeElement) ? document.activeElement.id : "";
    const kept = new Map();
    for (const box of region.querySelectorAll("pre[id]")) {
      const end = box.scrollHeight - box.clientHeight;
      kept.set(box.id, { top: box.scrollTop, left: box.scrollLeft, atEnd: box.scrollTop >= end - 4 });
    }
    const sideways = [...region.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const open = [...region.querySelectorAll("details[id][open]")].map((box) => box.id);
    region.replaceWith(fresh);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    fresh.querySelectorAll(".scroll").forEach((box, at) => (box.scrollLeft = sideways[at] ?? 0));
    for (const box of fresh.querySelectorAll("pre[id]")) {
      const was = kept.get(box.id);
      box.scrollTop = !was || was.atEnd ? box.scrollHeight : was.top;
      box.scrollLeft = was ? was.left : 0;
    }
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    running?.abort();
    running = new AbortController();
    const mine = running;
    try {
      const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin", signal: mine.signal });
      if (answer.redirected) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine !== running) return;
      // Regions come and go: a job gets attempts, a graph, children.
      const main = document.getElementById("content");
      const fresh = page.getElementById("content");
      for (const region of document.querySelectorAll("[data-live]")) {
        const next = page.getElementById(region.id);
        if (next) put(region, document.adoptNode(next));
      }
      for (const next of [...fresh.querySelectorAll(":scope > [data-live]")]) {
        if (!document.getElementById(next.id)) main.append(document.adoptNode(next));
      }
      every = Number(page.body.dataset.refresh) || every;
      pulse.textContent = "Updated " + new Date().toLocaleTimeString();
      pulse.classList.remove("bad");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      pulse.textContent = "Not up to date: the page does not answer; trying again";
      pulse.classList.add("bad");
    }
  };

  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (!document.hidden) await refresh();
      again();
    }, every * 1000);
  };

  // The plus sign is a link; with the script its row opens where it is.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-swap]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const address = new URL(link.href);
    address.hash = "";
    history.replaceState(null, "", address);
    refresh();
  });

  const own = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  document.addEventListener("mouseover", (event) => {
    const time = event.target.closest?.("time[datetime]");
    if (time && !time.title) time.title = own.format(new Date(time.dateTime));
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
  for (const box of document.querySelectorAll("pre.output")) box.scrollTop = box.scrollHeight;
  again();
})();
