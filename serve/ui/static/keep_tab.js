() => {
  // The tab is part of the address, after "#", which a browser does not send. Nothing else is.
  const names = __TABS__;
  const tabs = () => [...document.querySelectorAll("[role=tablist] [role=tab]")];
  const place = () => new URLSearchParams(location.hash.slice(1));
  const open = () => tabs()[names.indexOf(place().get("tab"))]?.click();
  addEventListener("click", ({ target }) => {
    const name = names[tabs().indexOf(target.closest?.("[role=tab]"))];
    const now = place();
    if (!name || now.get("tab") === name) return;
    now.set("tab", name);
    history.replaceState(history.state, "", `#${now}`);
  });
  addEventListener("hashchange", open);
  open();
}
