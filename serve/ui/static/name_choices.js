() => {
  // Gradio gives each choice of a radio group a different name, so that arrow keys do not move between
  // them, and no name to fieldsets. The form is hidden until this has run: see style.css.
  const name = () => {
    for (const group of document.querySelectorAll("fieldset[id]")) {
      const label = group.querySelector("[data-testid=block-info]")?.innerText ?? "";
      if (group.getAttribute("aria-label") !== label) group.setAttribute("aria-label", label);
      group.role = "radiogroup";  // only this role can be invalid
      for (const choice of group.querySelectorAll("input[type=radio]"))
        if (choice.name !== group.id) choice.name = group.id;
    }
  };
  name();
  const names = { subtree: true, childList: true, attributes: true, attributeFilter: ["name"] };
  new MutationObserver(name).observe(document.body, names);
  document.documentElement.dataset.ready = "";
}
