() => {
  // The language of the address, else that of the browser.
  const tags = __TAGS__;
  const wanted = [new URLSearchParams(location.hash.slice(1)).get("lang") ?? "", navigator.language ?? ""];
  const known = wanted.map((tag) => tags[tag.toLowerCase().split("-")[0]]).filter(Boolean);
  const language = known[0] ?? __DEFAULT__;
  document.documentElement.lang = language;
  for (const part of ["answer", "scored", "recorded", "drift", "comparison"])
    document.getElementById(part)?.setAttribute("aria-live", "polite");
  return [language];
}
